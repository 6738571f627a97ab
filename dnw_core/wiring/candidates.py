"""The entries of a large weight that can be among its k largest magnitudes, found by a sample (on a CPU).

The k-th largest magnitude is estimated from every 61st entry, with a margin; whatever reaches the estimate is a
candidate. At least k candidates prove that none of the k largest is missing, so the estimate decides about speed
alone, never about the result. The weight is read in chunks that stay in the cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# a prime, so that the sample visits every column of a matrix rather than a few of them
SAMPLE_STRIDE = 61
MARGIN_DEVIATIONS = 4.0
CHUNK = 1 << 18


def candidate_indices(flat: Tensor, k: int, among: Tensor | None) -> Tensor | None:
    """Return ascending indices that hold the k largest magnitudes of ``flat`` and more; None if too few are found.

    Args:
        flat: one-dimensional, contiguous, on the CPU. A NaN is always a candidate.
        k: how many largest are wanted.
        among: boolean, like ``flat``: the entries that may be candidates; None for all.
    """
    at_least = _estimate(flat, k, among)
    if at_least is None:
        return None
    scratch = torch.empty(CHUNK, dtype=flat.dtype)
    found = []
    for start in range(0, flat.numel(), CHUNK):
        chunk = flat[start : start + CHUNK]
        # "not below" rather than "at least": it is true of a NaN
        reached = (torch.abs(chunk, out=scratch[: chunk.numel()]) < at_least).logical_not_()
        if among is not None:
            reached &= among[start : start + CHUNK]
        found.append(reached.nonzero().view(-1).add_(start))
    indices = torch.cat(found)
    return indices if indices.numel() >= k else None


def _estimate(flat: Tensor, k: int, among: Tensor | None) -> float | None:
    """Return a magnitude that some more than k entries probably reach, None where hardly any would be left out."""
    sample = flat[::SAMPLE_STRIDE].abs()
    if among is not None:
        sample = sample.masked_fill_(~among[::SAMPLE_STRIDE], -1.0)
    expected = k / SAMPLE_STRIDE
    rank = math.ceil(expected + MARGIN_DEVIATIONS * math.sqrt(expected)) + 1
    if rank > sample.numel():
        return None
    return float(torch.topk(sample, rank, sorted=False).values.min())
