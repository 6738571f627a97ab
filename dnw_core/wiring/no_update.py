"""DNW without its update rule: the table's ablation of letting hidden edges learn (facts 4.1).

The forward pass is DNW's, the k largest magnitudes anew each time. Hidden edges get no gradient: decay alone moves
them, so an edge that has fallen out comes back only if another one shrinks below it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.config import NoUpdateConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.ranked import RankedRule
from dnw_core.wiring.slots import Slots


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
