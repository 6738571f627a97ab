"""Working through a batch in pieces that fit into a CPU's cache.

For computations that treat each image by itself. It changes no number but the order in which weight gradients are
summed, and makes every element-wise operation several times faster (``benchmarks/training_step.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

# floats of state per piece on a CPU: 16 images of 800 x 8 x 8, so that several such tensors share the cache; larger
# pieces are hardly faster, and the recorded ODE of a piece (some 38 evaluations) takes memory in proportion
CPU_PIECE_FLOATS = 16 * 800 * 8 * 8


def in_pieces(inputs_bchw: Tensor, nodes: int) -> tuple[Tensor, ...]:
    """Split a batch into cache-sized pieces on a CPU; elsewhere leave it whole."""
    if inputs_bchw.device.type != "cpu":
        return (inputs_bchw,)
    height, width = inputs_bchw.shape[2:]
    return torch.split(inputs_bchw, max(1, CPU_PIECE_FLOATS // (nodes * height * width)))


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision to float32: statistics and means are never taken in less. Float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
