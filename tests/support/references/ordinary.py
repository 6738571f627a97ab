"""The light Xception and the light DenseNet (facts 4.2) written as plainly as possible, in float64.

Uses no code of ``dnw_core.models``. The parameters come in the order in which the text below uses them, without names,
so a layer that is missing, misplaced or of another size does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from support.references.mobilenet import batch_norm, shifted_sum

STAGES = (4, 8, 4)


def relu(maps: Tensor) -> Tensor:
    """Negative values to zero."""
    return maps * (maps > 0)


def pointwise(maps: Tensor, weight: Tensor) -> Tensor:
    """1x1 convolution, weight [o, i, 1, 1]."""
    return torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], maps)


def max_pool(maps: Tensor) -> Tensor:
    """The largest of 3x3 pixels, at every second one; nothing outside counts."""
    height, width = maps.shape[2:]
    padded = torch.full((*maps.shape[:2], height + 2, width + 2), -torch.inf, dtype=maps.dtype)
    padded[:, :, 1:-1, 1:-1] = maps
    parts = [padded[:, :, r : r + height : 2, c : c + width : 2] for r in range(3) for c in range(3)]
    return torch.stack(parts).amax(dim=0)


def norm(maps: Tensor, parameters: Iterator[Tensor]) -> Tensor:
    """Batch norm with the next two parameters."""
    weight = next(parameters)
    return batch_norm(maps, weight, next(parameters))


def stem(images: Tensor, parameters: Iterator[Tensor]) -> Tensor:
    """3x3 convolution of stride 2, norm, ReLU, max-pool."""
    return max_pool(relu(norm(shifted_sum(images, next(parameters), 2), parameters)))


def classify(maps: Tensor, parameters: Iterator[Tensor]) -> Tensor:
    """Mean over the pixels, linear; no parameter may be left."""
    logits = maps.mean(dim=(2, 3)) @ next(parameters).T + next(parameters)
    assert next(parameters, None) is None
    return logits


def separable(maps: Tensor, parameters: Iterator[Tensor], stride: int = 1) -> Tensor:
    """Depthwise 3x3, norm, 1x1, norm."""
    own = norm(shifted_sum(maps, next(parameters), stride), parameters)
    return norm(pointwise(own, next(parameters)), parameters)


def xception(images: Tensor, values: list[Tensor]) -> Tensor:
    """Logits of the light Xception in training mode."""
    parameters = iter(values)
    maps = stem(images, parameters)
    for blocks in STAGES:
        for block in range(blocks):
            stride = 2 if block == 0 else 1
            made = relu(separable(maps, parameters, stride))
            made = separable(relu(separable(made, parameters)), parameters)
            maps = relu(made + (separable(maps, parameters, 2) if block == 0 else maps))
    return classify(maps, parameters)


def densenet(images: Tensor, values: list[Tensor]) -> Tensor:
    """Logits of the light DenseNet in training mode, its transitions in the published order: 1x1, then the mean."""
    parameters = iter(values)
    maps = stem(images, parameters)
    for layers in STAGES:
        mixed = pointwise(relu(norm(maps, parameters)), next(parameters))
        rows, columns = mixed.shape[2] // 2, mixed.shape[3] // 2
        maps = mixed.reshape(*mixed.shape[:2], rows, 2, columns, 2).mean(dim=(3, 5))
        for _ in range(layers):
            narrow = pointwise(relu(norm(maps, parameters)), next(parameters))
            new = shifted_sum(relu(norm(narrow, parameters)), next(parameters), 1)
            maps = torch.cat((maps, new), dim=1)
    maps = pointwise(relu(norm(maps, parameters)), next(parameters))
    return classify(relu(norm(maps, parameters)), parameters)
