"""The k largest magnitudes of a large weight, most of them found by comparing with two numbers (on a CPU).

Every 61st entry tells, with a margin, between which two magnitudes the k-th largest lies. What lies above both is kept,
what lies below both is not, and only the entries in between, few however large k is, are selected one by one. Counting
proves that the k-th largest is in between, so the sample decides about speed alone, never about the result. The weight
is read in chunks that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

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
