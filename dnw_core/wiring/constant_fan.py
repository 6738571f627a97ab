"""Fixed random edges with a constant fan: the X-Nets of Deep Expander Networks (facts 4.2).

Each neuron of the smaller side, senders or receivers, has the same number of partners on the larger one, drawn without
replacement; where both sides are equal, each receiver draws its senders. Neurons of the larger side may have any
number, none included. The mask never changes, and only its edges get a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.config import ConstantFanConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots


class ConstantFan(WiringRule):
    """Keeps 1/factor of the larger side as partners of each neuron of the smaller side, rounded down, for ever.

    A weight of more than two dimensions counts as [receivers, all the rest]: each entry of a kernel sends by itself.

    Raises:
        ValueError: if the factor leaves a neuron without a partner, or the forward pass does not read every slot.
    """

    mask: Tensor = mask_buffer("mask")

    def __init__(self, config: ConstantFanConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, None)
        if slots.usable_count < slots.numel:
            raise ValueError("constant-fan is for weights whose slots are all usable; in this network some are not")
        receivers, senders = slots.shape[0], slots.numel // slots.shape[0]
        smaller, larger = min(receivers, senders), max(receivers, senders)
        partners = larger // config.factor
        if not partners:
            raise ValueError(
                f"factor is {config.factor}, which leaves no partner among {larger}; it must be at most {larger}"
            )
        self.kept_edges = smaller * partners
        drawn = torch.rand(smaller, larger, generator=generator, dtype=torch.float64).argsort(dim=1)[:, :partners]
        mask = torch.zeros(smaller, larger, dtype=torch.bool).scatter_(1, drawn, True)
        self.register_mask("mask", (mask if receivers <= senders else mask.T).reshape(slots.shape))

    def edges(self, weight: Tensor) -> Tensor:
        """The mask drawn at the start, whatever the weight."""
        return self.mask

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the drawn edges at zero; ordinary gradient, so zero elsewhere."""
        return masked(weight, self.mask)
