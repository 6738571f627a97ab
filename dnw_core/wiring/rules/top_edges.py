"""Top edges, the rule of Discovering Neural Wirings (paper section 2; facts 1.1).

The k slots of largest magnitude are edges. The gradient with respect to the effective weight goes unchanged to
*every* slot, so that an edge which carries no signal still learns what it would have contributed and can come
in; no gradient flows through such an edge to the nodes before it, because the products use the masked weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.config import NoUpdateConfig, RankedConfig, TopEdgesConfig
from dnw_core.wiring.masking import masked, straight_through
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class RankedRule(WiringRule):
    """Keeps k slots by magnitude, ties to the lowest index.

    ``ranked_slots="reference"`` ranks all slots, also those that the forward pass never reads (Q1, Q3), as the
    released code does; ``"corrected"`` ranks the usable ones only, with the same k.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    rankable: Tensor | None = mask_buffer("rankable")

    def __init__(self, config: RankedConfig, slots: Slots) -> None:
        super().__init__(slots, config.budget)
        rankable = slots.usable if config.ranked_slots == "corrected" else None
        if rankable is not None:
            self.refuse_too_few_usable()
        # follows from the network alone, so it need not be in the checkpoint
        self.register_mask("rankable", rankable, count="usable_count", persistent=False)

    def largest(self, weight: Tensor) -> Tensor:
        """Return the mask of the k largest magnitudes among the ranked slots."""
        return largest_magnitudes(weight, self.kept_edges, self.rankable)


class TopEdges(RankedRule):
    """Keeps exactly k edges: the largest |w|, selected anew at every use."""

    def __init__(self, config: TopEdgesConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots)

    def edges(self, weight: Tensor) -> Tensor:
        """The k largest magnitudes among the ranked slots."""
        return self.largest(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the top edges at zero; straight-through gradient."""
        return straight_through(weight, self.largest(weight))


class NoUpdate(RankedRule):
    """Keeps exactly k edges, the largest |w|, selected anew at every use; only these get a gradient (Q3)."""

    def __init__(self, config: NoUpdateConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots)

    def edges(self, weight: Tensor) -> Tensor:
        """The k largest magnitudes among the ranked slots."""
        return self.largest(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the top edges at zero, in value and in gradient."""
        return masked(weight, self.largest(weight))
