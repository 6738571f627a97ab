"""Fixed random edges: the paper's baseline "Random Graph" (facts 1.6).

k slots are drawn uniformly once; only they get a gradient. Weight decay still shrinks the others, which no
forward pass reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.config import FixedRandomConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.random_edges import random_mask
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots


class FixedRandom(WiringRule):
    """Keeps k randomly drawn edges for ever.

    ``eligible_slots="reference"`` draws among the slots that the released code leaves eligible (Q2: on the tiny
    static net 15 % of the edges are never read); ``"corrected"`` among the usable ones.

    Raises:
        ValueError: if fewer slots are eligible than edges are to be drawn.
    """

    mask: Tensor = mask_buffer("mask")

    def __init__(self, config: FixedRandomConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        eligible = slots.usable if config.eligible_slots == "corrected" else slots.released_random
        self.register_mask("mask", random_mask(slots.shape, self.kept_edges, generator, eligible))

    def edges(self, weight: Tensor) -> Tensor:
        """The mask drawn at the start, whatever the weight."""
        return self.mask

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the drawn edges at zero; ordinary gradient, so zero elsewhere."""
        return masked(weight, self.mask)
