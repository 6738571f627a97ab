"""What is computed in float32 at every precision of a recipe."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision to float32: statistics and means are never taken in less. Float64 stays."""
    return x if x.dtype == torch.float64 else x.float()
