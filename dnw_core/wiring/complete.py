"""The complete graph: no edge is ever taken away, the dense network that others are compared with (facts 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.config import CompleteConfig
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots


class Complete(WiringRule):
    """Every usable slot is an edge; the effective weight is the weight itself, with its ordinary gradient.

    Slots that the forward pass never reads are no edges; their weights only decay.
    """

    usable: Tensor | None = mask_buffer("usable")

    def __init__(self, config: CompleteConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, None)
        # follows from the network alone, so it need not be in the checkpoint
        self.register_mask("usable", slots.usable, count="usable_count", persistent=False)

    def edges(self, weight: Tensor) -> Tensor:
        """All usable slots, whatever the weight."""
        return torch.ones_like(weight, dtype=torch.bool) if self.usable is None else self.usable

    def forward(self, weight: Tensor) -> Tensor:
        """The weight."""
        return weight
