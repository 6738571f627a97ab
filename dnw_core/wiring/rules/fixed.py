"""Edges that the seed decides: drawn once, or all of them. Only edges get a gradient.

Weight decay still shrinks the other weights, which no forward pass reads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import CompleteConfig, ConstantFanConfig, FixedRandomConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.selection import random_mask
from dnw_core.wiring.slots import Slots


class DrawnMask(WiringRule):
    """Keeps the edges of the buffer ``mask`` for ever. Gradient: of the effective weight, at the edges alone."""

    mask: Tensor = mask_buffer("mask")

    @override
    def edges(self, weight: Tensor) -> Tensor:
        return self.mask

    @override
    def forward(self, weight: Tensor) -> Tensor:
        return masked(weight, self.mask)


class RandomGraph(DrawnMask):
    """Keeps k randomly drawn edges, each set of k eligible slots as likely as any other.

    Wortsman, Farhadi, Rastegari: "Discovering Neural Wirings", NeurIPS 2019, arXiv:1906.00586: the baseline "Random
    Graph" of its tables (facts 1.6).

    ``eligible_slots="reference"`` draws among the slots that the released code leaves eligible (Q2: on the tiny
    static net 15 % of the edges are never read); ``"corrected"`` among the usable ones.

    Raises:
        ValueError: if fewer slots are eligible than edges are to be drawn.
    """

    def __init__(self, config: FixedRandomConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        eligible = slots.usable if config.eligible_slots == "corrected" else slots.released_random
        self.register_mask("mask", random_mask(slots.shape, self.kept_edges, generator, eligible))


class ExpanderGraph(DrawnMask):
    """Keeps 1/factor of the larger side as partners of each neuron of the smaller side, rounded down.

    Prabhu, Varma, Namboodiri: "Deep Expander Networks: Efficient Deep Networks from Graph Theory", ECCV 2018,
    arXiv:1711.08757 (X-Nets; facts 4.2).

    A weight of more than two dimensions counts as [receivers, all the rest]: each entry of a kernel sends by itself.

    Raises:
        ValueError: if the factor leaves a neuron without a partner, or the forward pass does not read every slot.
    """

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


class Complete(WiringRule):
    """Every usable slot is an edge; the effective weight is the weight itself, with its ordinary gradient.

    Slots that the forward pass never reads are not edges; their weights only decay.
    """

    def __init__(self, config: CompleteConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, None)

    @override
    def edges(self, weight: Tensor) -> Tensor:
        return torch.ones_like(weight, dtype=torch.bool) if self.usable is None else self.usable

    @override
    def forward(self, weight: Tensor) -> Tensor:
        return weight
