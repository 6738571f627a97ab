"""What the rules that keep the k largest magnitudes share: which slots are ranked, and the ranking."""

from __future__ import annotations

from torch import Tensor

from dnw_core.wiring.config_base import RankedConfig
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
