"""Exact selection of the k largest entries, with ties broken alike on every device.

``torch.topk`` alone promises neither which of several equal values it takes nor that two devices agree.
Here only the k-th largest *value* comes from it; everything above is kept, and of the entries that equal it
those with the lowest flat index, until k are kept. A full sort is never needed (``benchmarks/training_step.py``).

``largest_magnitudes`` is the same selection by |weight|; on a CPU it looks closely only at the entries that a sample
leaves in doubt (``candidates``), which is an order of magnitude faster than a sort (``benchmarks/selection.py``). Under
``torch.compile``, ``torch.export`` and ``torch.func`` it is one traceable graph without that short cut, with the same
result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.candidates import mask_by_bracket
from dnw_core.wiring.transforms import is_concrete

# below this many entries looking for candidates costs more than it saves
CANDIDATES_FROM = 1 << 15


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
    if flat.device.type == "cpu" and is_concrete(flat):
        # asking whether there are more ties than room is cheap here; on an accelerator it would wait for the queue
        reached = flat >= threshold
        if int(torch.count_nonzero(reached)) == k:
            return reached.view(scores.shape)
    keep = flat > threshold
    tied = flat == threshold
    room = k - torch.count_nonzero(keep)
    keep |= tied & (tied.cumsum(0) <= room)
    return keep.view(scores.shape)


@torch.no_grad()
def largest_magnitudes(weight: Tensor, k: int, among: Tensor | None = None) -> Tensor:
    """Return a boolean mask of exactly ``k`` entries of ``weight``: those of largest magnitude, lowest index on ties.

    Args:
        weight: any shape. NaN counts as infinity.
        k: entries to keep.
        among: boolean, like ``weight``: the entries that may be kept, at least ``k``; None for all.

    Raises:
        ValueError: if ``k`` is negative or exceeds the number of entries.
    """
    # how many entries are in doubt depends on the values, which no traced graph can know
    by_bracket = weight.device.type == "cpu" and weight.is_contiguous() and is_concrete(weight)
    if by_bracket and 0 < k < weight.numel() >= CANDIDATES_FROM:
        flat_among = None if among is None else among.reshape(-1)
        mask = mask_by_bracket(weight.detach().view(-1), k, flat_among, top_k_mask)
        if mask is not None:
            return mask.view(weight.shape)
    scores = weight.detach().abs()
    if among is not None:
        scores = scores.masked_fill(~among, -1.0)
    return top_k_mask(scores, k)
