"""Top edges, the rule of Discovering Neural Wirings, and the same forward pass without its update (facts 1.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import RankedConfig
from dnw_core.wiring.masking import masked, straight_through
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class RankedRule(WiringRule):
    """Keeps the k slots of largest magnitude, ties to the lowest index, selected anew at every use.

    ``ranked_slots="reference"`` ranks all slots, also those that the forward pass never reads (Q1, Q3), as the
    released code does; ``"corrected"`` ranks the usable ones only, with the same k.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    def __init__(self, config: RankedConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        self.ranks_usable = config.ranked_slots == "corrected"
        if self.ranks_usable:
            self.refuse_too_few_usable()

    def largest(self, weight: Tensor) -> Tensor:
        """Return the mask of the k largest magnitudes among the ranked slots."""
        return largest_magnitudes(weight, self.kept_edges, self.usable if self.ranks_usable else None)

    @override
    def edges(self, weight: Tensor) -> Tensor:
        return self.largest(weight)


class DiscoveringNeuralWirings(RankedRule):
    """Top edges, DNW: keeps exactly k edges, and lets every slot learn.

    Wortsman, Farhadi, Rastegari: "Discovering Neural Wirings", NeurIPS 2019, arXiv:1906.00586, section 2.

    Gradient: that of the effective weight goes unchanged to *every* slot, so that an edge which carries no signal still
    learns what it would have contributed and can come in; no gradient flows through such an edge to the nodes before
    it, because the products use the masked weight.
    """

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the top edges at zero; straight-through gradient."""
        return straight_through(weight, self.largest(weight))


class NoUpdateRule(RankedRule):
    """Keeps exactly k edges; the row "No Update Rule" of the same paper (facts 4.1, Q3).

    Gradient: of the effective weight, at the edges alone.
    """

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the top edges at zero, in value and in gradient."""
        return masked(weight, self.largest(weight))
