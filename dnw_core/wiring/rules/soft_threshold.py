"""Soft threshold reparameterisation, STR: how many edges there are is learned (facts 6)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnw_core.config import SoftThresholdConfig
from dnw_core.wiring.masking import masked_values
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots
from dnw_core.wiring.transforms import differentiating_by_transform


class _SoftThreshold(torch.autograd.Function):
    """Keeps nothing for the backward pass but its two inputs, which are parameters."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(weight, s)
        return weight.abs().sub_(s.sigmoid()).relu_().mul_(weight.sign())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        weight, s = ctx.saved_tensors
        threshold = s.sigmoid()
        grad_weight = masked_values(grads[0], weight.abs() > threshold)
        along = weight.sign().mul_(grad_weight).sum().view(s.shape)
        return grad_weight, -threshold * (1 - threshold) * along


def _take_number(rule: nn.Module, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
    """Load ``s`` also from where it was kept as a number, without dimensions."""
    kept, own = state_dict.get(f"{prefix}s"), rule.s
    if isinstance(kept, Tensor) and isinstance(own, Tensor) and not kept.dim():
        state_dict[f"{prefix}s"] = kept.view(own.shape)


class SoftThresholdReparameterization(WiringRule):
    """Shrinks every weight towards zero by a learned threshold; those that reach zero are not edges.

    Kusupati, Ramanujan, Somani, Wortsman, Jain, Kakade, Farhadi: "Soft Threshold Weight Reparameterization for
    Learnable Sparsity", ICML 2020, arXiv:2002.03231, section 3.

    The effective weight is sign(w) * max(|w| - t, 0) with t = sigmoid(s) and one trained number s for each weight
    tensor. Decay draws s from far below up to zero, and t rises until the loss objects; so decay, and where s starts,
    decide how many edges are left. No count is promised.

    Gradient: with A the slots where |w| > t and g that of the effective weight, w gets g on A and zero elsewhere, and
    s gets -t * (1 - t) * sum over A of sign(w) * g.

    ``s`` is a parameter: the optimiser that trains the weight must train and decay it, too. It has as many dimensions
    as the weight, so that the usual parameter groups, which spare vectors and numbers from decay, decay it.
    """

    decayed_parameters = ("s",)

    def __init__(self, config: SoftThresholdConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, None)
        self.s = nn.Parameter(torch.full((1,) * len(slots.shape), config.initial_threshold))
        self.register_load_state_dict_pre_hook(_take_number)  # type: ignore[no-untyped-call]

    @property
    @override
    def promised_edges(self) -> None:
        """Training decides."""
        return

    @override
    def edges(self, weight: Tensor) -> Tensor:
        """The usable slots whose magnitude exceeds the threshold."""
        mask = weight.abs() > self.s.sigmoid()
        return mask if self.usable is None else mask & self.usable

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight, nearer to zero by the threshold."""
        if differentiating_by_transform():
            return (weight.abs() - self.s.sigmoid()).to(weight.dtype).relu() * weight.sign()
        effective: Tensor = _SoftThreshold.apply(weight, self.s)
        return effective
