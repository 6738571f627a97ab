"""The MobileNetV1-like graph network (facts 2.1) written as plainly as possible, in float64, node by node of its text.

Shares no code with ``dnw_core.models``: norms are written out, convolutions are sums of shifted maps, edges are sums
over an explicit list of senders per receiving group. Parameters come as a plain dict of float64 tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCKS = ((32, 64, 1, 1), (64, 128, 2, 2), (128, 256, 2, 2), (256, 512, 2, 6), (512, 1024, 2, 2))


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each channel to mean 0 and variance 1 over images and pixels (training mode)."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight[:, None, None] + bias[:, None, None]


def shifted_sum(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """3x3 convolution with one zero pixel around: a full one if kernel is [o, i, 3, 3], per channel if [c, 1, 3, 3]."""
    height, width = x.shape[2:]
    padded = torch.zeros(*x.shape[:2], height + 2, width + 2, dtype=x.dtype)
    padded[:, :, 1:-1, 1:-1] = x
    total: Tensor | float = 0.0
    for row in range(3):
        for column in range(3):
            part = padded[:, :, row : row + height : stride, column : column + width : stride]
            if kernel.shape[1] == 1:
                total = total + part * kernel[:, 0, row, column][:, None, None]
            else:
                total = total + torch.einsum("oi,bihw->bohw", kernel[:, :, row, column], part)
    assert isinstance(total, Tensor)
    return total


def forward(parameters: dict[str, Tensor], images: Tensor, stem_stride: int = 1) -> Tensor:
    """Logits of the network with these effective edge matrices, one per block, [receivers, senders]."""
    maps = shifted_sum(images, parameters["stem.weight"], stem_stride)
    for index, (inputs, outputs, stride, groups) in enumerate(BLOCKS):
        sent: list[Tensor] = []
        received = maps
        for group in range(groups):
            name = f"blocks.{index}.senders.{group}"
            normed = batch_norm(received, parameters[f"{name}.norm.weight"], parameters[f"{name}.norm.bias"])
            positive = normed * (normed > 0)
            sent.append(shifted_sum(positive, parameters[f"{name}.node_op.weight"], stride if group == 0 else 1))
            rows = parameters[f"blocks.{index}.edges.weight"][group * outputs : (group + 1) * outputs]
            columns = rows[:, : inputs + group * outputs]  # everything that has sent by now
            received = torch.einsum("rs,bshw->brhw", columns, torch.cat(sent, dim=1))
        maps = received
    normed = batch_norm(maps, parameters["norm.weight"], parameters["norm.bias"])
    features = (normed * (normed > 0)).mean(dim=(2, 3))
    return features @ parameters["classifier.weight"].T + parameters["classifier.bias"]
