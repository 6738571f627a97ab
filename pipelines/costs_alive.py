"""Masks in which nothing is dead: what a graph network costs if every node sends and every output is fed.

The papers' accounting drops nodes that nothing leaves (facts 2.3), so the cost of a network depends on its edges and
not only on their number. This is the largest cost that a number of edges can have: an upper bound for the trained
network, and the figure which all draws are below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.slots import Slots


def alive_mask(slots: Slots, edges: int) -> Tensor:
    """Return ``edges`` usable slots as a boolean mask of the weight's shape, with as few dead nodes as can be.

    First each sender gets one edge, spread over its receivers from the last one on (a block's last receivers are its
    outputs), then each receiver that has none yet; the rest comes in the order of the slots.
    """
    usable = torch.ones(slots.shape, dtype=torch.bool) if slots.usable is None else slots.usable
    usable = usable.flatten(1)
    senders = usable.shape[1]
    mask = torch.zeros_like(usable)
    for column, receivers in enumerate(_receivers(usable)):
        if edges and len(receivers):
            mask[receivers[-1 - column % len(receivers)], column] = True
            edges -= 1
    lonely = (usable.any(dim=1) & ~mask.any(dim=1)).nonzero().flatten()[:edges]
    mask[lonely, usable[lonely].int().argmax(dim=1)] = True
    free = (usable & ~mask).view(-1).nonzero().flatten()[: edges - len(lonely)]
    mask[free // senders, free % senders] = True
    return mask.view(slots.shape)


def _receivers(usable: Tensor) -> list[Tensor]:
    """Return the rows that each column may send to; neighbours with the same ones share a tensor."""
    patterns, which = torch.unique_consecutive(usable, dim=1, return_inverse=True)
    rows = [pattern.nonzero().flatten() for pattern in patterns.T]
    return [rows[index] for index in which.tolist()]
