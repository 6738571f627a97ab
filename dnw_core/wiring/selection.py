"""Exact selection of the k largest entries, with ties broken alike on every device.

``torch.topk`` alone promises neither which of several equal values it takes nor that two devices agree.
Here only the k-th largest *value* comes from it; everything above is kept, and of the entries that equal it
those with the lowest flat index, until k are kept. A full sort is never needed: on a 800x800 matrix this is
an order of magnitude faster (``benchmarks/training_step.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def top_k_mask(scores: Tensor, k: int) -> Tensor:
    """Return a boolean mask of exactly ``k`` entries of ``scores``: the largest, lowest flat index first on ties.

    Args:
        scores: any shape, at least ``k`` entries. NaN counts as infinity.
        k: entries to keep, 0 <= k <= scores.numel().

    Raises:
        ValueError: if ``k`` is outside that range.
    """
    count = scores.numel()
    if not 0 <= k <= count:
        raise ValueError(f"k is {k}; it must lie between 0 and the number of entries, {count}")
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if k == count:
        return torch.ones_like(scores, dtype=torch.bool)
    # a diverged weight must not break the count: NaN compares false with everything, infinity does not
    flat = scores.reshape(-1).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    threshold = torch.topk(flat, k, sorted=False).values.min()
    keep = flat > threshold
    tied = flat == threshold
    room = k - keep.sum()
    keep |= tied & (tied.cumsum(0) <= room)
    return keep.view(scores.shape)
