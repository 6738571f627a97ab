"""ResNet-50 v1.5 and the pre-activation wide ResNet (facts 3, 6) written as plainly as possible, for any float type.

Uses no code of ``dnw_core.models``. Parameters come as a plain dict of effective ones, by their names; a norm without
parameters there neither scales nor shifts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from support.references.mobilenet import batch_norm

BOTTLENECKS = (3, 4, 6, 3)


class Reference:
    """The steps of both networks, in training mode."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self.parameters = parameters

    def norm(self, name: str, maps: Tensor) -> Tensor:
        """Batch norm, and scale and shift where there are any."""
        channels = maps.shape[1]
        scale = self.parameters.get(f"{name}.weight", torch.ones(channels, dtype=maps.dtype))
        shift = self.parameters.get(f"{name}.bias", torch.zeros(channels, dtype=maps.dtype))
        return batch_norm(maps, scale, shift)

    def conv(self, name: str, maps: Tensor, stride: int = 1) -> Tensor:
        """Sum over kernel positions of shifted maps; zeros around."""
        kernel = self.parameters[f"{name}.weight"]
        size = kernel.shape[-1]
        side, around = maps.shape[-1], size // 2
        padded = torch.zeros(*maps.shape[:2], side + 2 * around, side + 2 * around, dtype=maps.dtype)
        padded[:, :, around : around + side, around : around + side] = maps
        total = torch.zeros(())
        for row in range(size):
            for column in range(size):
                part = padded[:, :, row : row + side : stride, column : column + side : stride]
                total = total + torch.einsum("oi,bihw->bohw", kernel[:, :, row, column], part)
        return total

    def classify(self, maps: Tensor) -> Tensor:
        """Mean over the pixels, classifier."""
        weight = self.parameters["classifier.weight"].flatten(1)
        return maps.mean(dim=(2, 3)) @ weight.T + self.parameters.get("classifier.bias", torch.zeros(()))


def relu(maps: Tensor) -> Tensor:
    """What is positive."""
    return maps * (maps > 0)


def max_pool(maps: Tensor) -> Tensor:
    """The largest of 3x3, every second pixel."""
    side = maps.shape[-1]
    padded = torch.full((*maps.shape[:2], side + 2, side + 2), -torch.inf, dtype=maps.dtype)
    padded[:, :, 1:-1, 1:-1] = maps
    parts = [padded[:, :, row : row + side : 2, column : column + side : 2] for row in range(3) for column in range(3)]
    return torch.stack(parts).amax(dim=0)


def resnet50(parameters: dict[str, Tensor], images: Tensor) -> Tensor:
    """Logits of ResNet-50 v1.5."""
    net = Reference(parameters)
    maps = max_pool(relu(net.norm("norm1", net.conv("conv1", images, 2))))
    for stage, blocks in enumerate(BOTTLENECKS, start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            made = relu(net.norm(f"{name}.norm1", net.conv(f"{name}.conv1", maps)))
            made = relu(net.norm(f"{name}.norm2", net.conv(f"{name}.conv2", made, stride)))
            made = net.norm(f"{name}.norm3", net.conv(f"{name}.conv3", made))
            if block == 0:
                maps = net.norm(f"{name}.shortcut.norm", net.conv(f"{name}.shortcut.conv", maps, stride))
            maps = relu(made + maps)
    return net.classify(maps)


def wide_resnet(parameters: dict[str, Tensor], images: Tensor, depth: int) -> Tensor:
    """Logits of the wide ResNet."""
    net = Reference(parameters)
    maps = net.conv("conv1", images)
    for group in (1, 2, 3):
        for block in range((depth - 4) // 6):
            name = f"group{group}.{block}"
            stride = 2 if group > 1 and block == 0 else 1
            active = relu(net.norm(f"{name}.norm1", maps))
            made = relu(net.norm(f"{name}.norm2", net.conv(f"{name}.conv1", active, stride)))
            if f"{name}.shortcut.weight" in parameters:
                maps = net.conv(f"{name}.shortcut", active, stride)
            maps = maps + net.conv(f"{name}.conv2", made)
    return net.classify(relu(net.norm("norm", maps)))
