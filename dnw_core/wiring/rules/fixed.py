"""Fixed random edges: the paper's baseline "Random Graph" (facts 1.6).

k slots are drawn uniformly once; only they get a gradient. Weight decay still shrinks the others, which no
forward pass reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.config import CompleteConfig, ConstantFanConfig, FixedRandomConfig
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
