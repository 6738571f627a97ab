"""Top edges, the rule of Discovering Neural Wirings (paper section 2; facts 1.1).

The k slots of largest magnitude are edges. The gradient with respect to the effective weight goes unchanged to
*every* slot, so that an edge which carries no signal still learns what it would have contributed and can come
in; no gradient flows through such an edge to the nodes before it, because the products use the masked weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.config import TopEdgesConfig
from dnw_core.wiring.masking import straight_through
from dnw_core.wiring.ranked import RankedRule
from dnw_core.wiring.slots import Slots


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
