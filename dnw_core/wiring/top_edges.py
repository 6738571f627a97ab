"""Top edges, the rule of Discovering Neural Wirings (paper section 2; facts 1.1).

The k slots of largest magnitude are edges. The gradient with respect to the effective weight goes unchanged to
*every* slot, so that an edge which carries no signal still learns what it would have contributed and can come
in; no gradient flows through such an edge to the nodes before it, because the products use the masked weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dnw_core.wiring.config import TopEdgesConfig
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.selection import top_k_mask
from dnw_core.wiring.slots import Slots


class _StraightThrough(torch.autograd.Function):
    """Masks in the forward pass, is the identity in the backward pass."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return grads[0], None


class TopEdges(WiringRule):
    """Keeps exactly k edges: the largest |w|, ties to the lowest index.

    ``ranked_slots="reference"`` ranks all slots, also those that the forward pass never reads (Q1), as the
    released code does; ``"corrected"`` ranks the usable ones only, with the same k.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    rankable: Tensor | None

    def __init__(self, config: TopEdgesConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.density)
        rankable = slots.usable if config.ranked_slots == "corrected" else None
        if rankable is not None and int(rankable.sum()) < self._k:
            raise ValueError(f"{self._k} edges are to be kept, but only {int(rankable.sum())} slots are usable")
        # follows from the network alone, so it need not be in the checkpoint
        self.register_buffer("rankable", rankable, persistent=False)

    @property
    def _k(self) -> int:
        assert self.promised_edges is not None
        return self.promised_edges

    def edges(self, weight: Tensor) -> Tensor:
        """The k largest magnitudes among the ranked slots."""
        scores = weight.detach().abs()
        if self.rankable is not None:
            scores = scores.masked_fill(~self.rankable, -1.0)
        return top_k_mask(scores, self._k)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the top edges at zero; straight-through gradient."""
        effective: Tensor = _StraightThrough.apply(weight, self.edges(weight))
        return effective
