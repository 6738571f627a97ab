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

import math
from collections.abc import Callable

import torch
from torch import Tensor

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


def random_mask(shape: tuple[int, ...], k: int, generator: torch.Generator, among: Tensor | None = None) -> Tensor:
    """Return a boolean mask of exactly ``k`` entries, drawn uniformly.

    Args:
        shape: of the mask.
        k: entries to draw.
        generator: gives the randomness; the mask is on its device.
        among: boolean, of the same shape: the entries to draw from; None for all.

    Raises:
        ValueError: if these are fewer than ``k``.
    """
    scores = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    if among is not None:
        slots_to_draw_from = int(among.count_nonzero())
        if slots_to_draw_from < k:
            raise ValueError(f"{k} edges are to be drawn from {slots_to_draw_from} slots")
    return largest_magnitudes(scores, k, among)


# a prime, so that the sample visits every column of a matrix rather than a few of them
SAMPLE_STRIDE = 61
MARGIN_DEVIATIONS = 4.0
CHUNK = 1 << 18
# where fewer are kept, selecting all of them is quicker than setting apart those beyond doubt
BRACKET_FROM_DENSITY = 0.03


def mask_by_bracket(
    flat: Tensor, k: int, among: Tensor | None, select: Callable[[Tensor, int], Tensor]
) -> Tensor | None:
    """Return the mask of the ``k`` largest magnitudes of ``flat``, lowest index on ties; None if the sample misled.

    Args:
        flat: one-dimensional, contiguous, on the CPU. NaN counts as infinity.
        k: how many are kept, at least 1.
        among: boolean, like ``flat``: the entries that may be kept; None for all.
        select: the plain selection: of some magnitudes, in the order of their indices, the mask of so many largest.
    """
    low, high = _bracket(flat, k, among)
    mask = torch.zeros(flat.numel(), dtype=torch.bool)
    scratch = torch.empty(CHUNK, dtype=flat.dtype)
    above_count = 0
    between_counts, between_indices = [], []
    for start in range(0, flat.numel(), CHUNK):
        magnitudes = _magnitudes(flat, start, scratch)
        between = magnitudes >= low
        if among is not None:
            between &= among[start : start + CHUNK]
        if high < math.inf:
            above = torch.gt(magnitudes, high, out=mask[start : start + CHUNK]).logical_and_(between)
            between ^= above
            above_count += int(torch.count_nonzero(above))
        between_counts.append(int(torch.count_nonzero(between)))
        if low < high:
            between_indices.append(between.nonzero().view(-1).add_(start))
    room = k - above_count
    if not 0 <= room <= sum(between_counts):
        return None
    if low < high:
        indices = torch.cat(between_indices)
        chosen = indices[select(flat[indices].abs(), room)]
        return mask.index_fill_(0, chosen, True)
    _keep_first(mask, flat, low, among, room, between_counts)
    return mask


def _keep_first(
    mask: Tensor, flat: Tensor, magnitude: float, among: Tensor | None, room: int, counts: list[int]
) -> None:
    """Keep the first ``room`` of the entries that tie at ``magnitude``; ``counts`` says how many are in each chunk."""
    scratch = torch.empty(CHUNK, dtype=flat.dtype)
    for start, count in zip(range(0, flat.numel(), CHUNK), counts, strict=True):
        if not room:
            return
        tied = _magnitudes(flat, start, scratch) == magnitude
        if among is not None:
            tied &= among[start : start + CHUNK]
        if count > room:
            tied[tied.nonzero().view(-1)[room:]] = False
        mask[start : start + CHUNK] |= tied
        room -= min(room, count)


def _magnitudes(flat: Tensor, start: int, scratch: Tensor) -> Tensor:
    """The magnitudes of one chunk, with NaN as infinity, in the memory of ``scratch``."""
    chunk = flat[start : start + CHUNK]
    return torch.abs(chunk, out=scratch[: chunk.numel()]).nan_to_num_(nan=torch.inf, posinf=torch.inf)


def _bracket(flat: Tensor, k: int, among: Tensor | None) -> tuple[float, float]:
    """Return two magnitudes, the lower first, between which the k-th largest probably lies (both included)."""
    sample = flat[::SAMPLE_STRIDE].abs().nan_to_num_(nan=torch.inf, posinf=torch.inf)
    if among is not None:
        sample.masked_fill_(~among[::SAMPLE_STRIDE], -1.0)
    expected = k / SAMPLE_STRIDE
    variance = expected * (1 - expected / sample.numel())
    margin = MARGIN_DEVIATIONS * math.sqrt(max(variance, 1.0)) + 1
    upper_rank, lower_rank = math.floor(expected - margin), math.ceil(expected + margin)
    largest = torch.topk(sample, min(lower_rank, sample.numel()), sorted=True).values
    beyond_doubt = upper_rank >= 1 and k >= BRACKET_FROM_DENSITY * flat.numel()
    high = float(largest[upper_rank - 1]) if beyond_doubt else math.inf
    low = float(largest[lower_rank - 1]) if lower_rank <= sample.numel() else 0.0
    return low, high
