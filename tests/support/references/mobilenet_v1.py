"""The ordinary MobileNetV1 (facts 4.1) written as plainly as possible, in float64, from the table of its layers.

Uses no code of ``dnw_core.models``. Parameters come as a plain dict of float64 tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from support.references.mobilenet import batch_norm, shifted_sum

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def forward(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits at 32 pixels in training mode, with these effective pointwise weights, [receivers, senders, 1, 1]."""

    def norm_relu(name: str, maps: Tensor) -> Tensor:
        normed = batch_norm(maps, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
        return normed * (normed > 0)

    maps = norm_relu("stem_norm", shifted_sum(images, parameters["stem.weight"], 1))
    for index, stride in enumerate(STRIDES):
        name = f"pairs.{index}"
        own = norm_relu(f"{name}.depthwise_norm", shifted_sum(maps, parameters[f"{name}.depthwise.weight"], stride))
        received = torch.einsum("rs,bshw->brhw", parameters[f"{name}.pointwise.weight"][:, :, 0, 0], own)
        maps = norm_relu(f"{name}.pointwise_norm", received)
    return maps.mean(dim=(2, 3)) @ parameters["classifier.weight"].T + parameters["classifier.bias"]
