"""Edge-popup: weights stay as they were drawn, and which of them are edges is learned (facts 6)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnw_core.config import EdgePopupConfig
from dnw_core.wiring.masking import masked_values, plainly_masked, valued
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots
from dnw_core.wiring.transforms import differentiating_by_transform


class _Popup(torch.autograd.Function):
    """The masked weight; the gradient goes to all scores. Kept in between: the weight and the scores, nothing new."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(scores, weight)
        return masked_values(weight, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        scores, weight = ctx.saved_tensors
        return scores.sign().mul_(weight).mul_(grads[0]), None, None


class EdgePopup(WiringRule):
    """Keeps exactly k edges: the largest |score| among the usable slots, selected anew at every use.

    Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari: "What's Hidden in a Randomly Weighted Neural Network?",
    CVPR 2020, arXiv:1911.13299, section 3.

    Gradient: none of the weight. It passes through the selection as if it were |score| itself, so with g that of the
    effective weight a score's is g * weight * sign(score), at every slot: that sign is the slope of the magnitude,
    without which a negative score would learn away from what helps.

    ``scores`` is a parameter of the weight's shape, drawn like torch's own convolutions, uniform in +-1/sqrt(fan-in).
    The weight is frozen as the rule is attached; an optimiser passes it over, decay included.

    ``signed-constant`` weights are +-sqrt(2 / fan-in), the deviation of a Kaiming-normal weight of the complete layer.
    The paper also tries a deviation scaled up by the density; the numbers of facts 6 are the unscaled ones (from
    memory, UNVERIFIED).

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    def __init__(self, config: EdgePopupConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        self.refuse_too_few_usable()
        self.constant = config.frozen_weights == "signed-constant"
        bound = self._fan_in**-0.5
        self.scores = nn.Parameter(torch.empty(slots.shape).uniform_(-bound, bound, generator=generator))

    @property
    def _fan_in(self) -> int:
        return math.prod(self.slots.shape[1:])

    @override
    def on_attach(self, weight: nn.Parameter) -> None:
        """Freeze the weight; with ``signed-constant``, after giving all of it one magnitude."""
        weight.requires_grad_(False)
        if self.constant:
            constant = math.sqrt(2 / self._fan_in)
            weight.copy_(torch.where(weight < 0, -constant, constant))

    @override
    def edges(self, weight: Tensor) -> Tensor:
        """The k largest scores' magnitudes, whatever the weight."""
        return largest_magnitudes(self.scores, self.kept_edges, self.usable)

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The frozen weight with all but the edges at zero; its gradient goes to the scores."""
        mask = self.edges(weight)
        if differentiating_by_transform():
            return valued(plainly_masked(weight, mask).detach(), self.scores.abs().to(weight.dtype) * weight.detach())
        effective: Tensor = _Popup.apply(self.scores, weight, mask)
        return effective
