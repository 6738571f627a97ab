"""Edges drawn at random, each set of k slots as likely as any other."""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.selection import top_k_mask


def random_mask(shape: tuple[int, ...], k: int, generator: torch.Generator, among: Tensor | None = None) -> Tensor:
    """Return a boolean mask of exactly ``k`` entries, drawn uniformly.

    Args:
        shape: of the mask.
        k: entries to draw.
        generator: gives the randomness; on its device the mask lies.
        among: boolean, of the same shape: the entries to draw from; None for all.

    Raises:
        ValueError: if these are fewer than ``k``.
    """
    scores = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    if among is not None:
        slots_to_draw_from = int(among.count_nonzero())
        if slots_to_draw_from < k:
            raise ValueError(f"{k} edges are to be drawn from {slots_to_draw_from} slots")
        scores = scores.masked_fill(~among, -1.0)
    return top_k_mask(scores, k)
