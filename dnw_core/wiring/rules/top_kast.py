"""Top-KAST: the forward pass uses the largest weights, the backward pass a few more (facts 6).

Two sets of slots by |w|: the k edges (A), and around them the slots that get a gradient (B). Both are selected anew
after every step, so that what has grown in B becomes an edge. An L2 penalty keeps the two apart: its decay is
``exploration_decay`` on A and that over the density on the rest of B, so that a weight there must earn its place. What
is outside B does not move at all.

The penalty takes the place of the weight decay that SGD would add. A decay of another kind (AdamW's) comes on top.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnw_core.config import EdgeBudget, TopKastConfig
from dnw_core.wiring.masking import masked_values, plainly_masked, valued, zero_outside
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import AttachedRule, WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots
from dnw_core.wiring.transforms import differentiating_by_transform


class _TwoMasks(torch.autograd.Function):
    """One mask in the forward pass, another in the backward pass; only the second is kept in between."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, forward_mask: Tensor, backward_mask: Tensor) -> Tensor:
        ctx.save_for_backward(backward_mask)
        return masked_values(weight, forward_mask)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return masked_values(grads[0], mask), None, None


class TopKast(WiringRule):
    """Keeps exactly k edges, and trains those and some more.

    Jayakumar, Pascanu, Rae, Osindero, Elsen: "Top-KAST: Top-K Always Sparse Training", NeurIPS 2020, arXiv:2106.03517,
    section 2.

    Gradient: of the effective weight at the slots of B, plus that of the penalty; zero elsewhere.

    With ``layers: erk`` a weight's B is its own k times backward_density / density, at most all of its slots; what
    would exceed it is not given to other weights.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    changes_optimiser = True
    forward_mask: Tensor = mask_buffer("forward_mask")
    backward_mask: Tensor = mask_buffer("backward_mask")

    def __init__(self, config: TopKastConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        self.refuse_too_few_usable()
        self.decay = config.exploration_decay
        self.trained_slots = min(_trained(config, slots), slots.usable_count)
        for name, count in (("forward_mask", "kept_edges"), ("backward_mask", "trained_slots")):
            self.register_mask(name, torch.zeros(slots.shape, dtype=torch.bool), count=count)
        # what must not move, between before_step and after_step alone: when activations no longer take memory
        self._unmoved: Tensor | None = None
        self._unmoved_at: int | None = None  # the step that it belongs to

    @override
    def on_attach(self, weight: nn.Parameter) -> None:
        self._select(weight)

    @override
    def edges(self, weight: Tensor) -> Tensor:
        return self.forward_mask

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the edges at zero; the gradient goes to the larger set."""
        if differentiating_by_transform():
            return valued(plainly_masked(weight, self.forward_mask), plainly_masked(weight, self.backward_mask))
        effective: Tensor = _TwoMasks.apply(weight, self.forward_mask, self.backward_mask)
        return effective

    @override
    def resumed(self) -> None:
        self._unmoved = None

    @override
    def before_step(self, here: AttachedRule, step: int) -> None:
        """Add the penalty's gradient, less the decay that the optimiser is about to add."""
        if here.gradient is None:
            return
        weight, rest = here.weight.detach(), self.backward_mask & ~self.forward_mask
        outer = self.decay * self.slots.numel / self.kept_edges
        here.gradient.add_(masked_values(weight, self.forward_mask), alpha=self.decay - here.weight_decay)
        here.gradient.add_(masked_values(weight, rest), alpha=outer - here.weight_decay)
        # a closure may be called more than once in a step, and a step may be given up after this
        if self._unmoved is None or step != self._unmoved_at:
            self._unmoved, self._unmoved_at = masked_values(weight, ~self.backward_mask), step

    @override
    def after_step(self, here: AttachedRule, step: int) -> None:
        """Take back what decay and momentum did outside the larger set, then select both sets anew."""
        if self._unmoved is None:
            return
        zero_outside(here.weight, self.backward_mask)
        here.weight.add_(self._unmoved)
        self._unmoved = None
        if here.momentum is not None:
            zero_outside(here.momentum, self.backward_mask)
        self._select(here.weight)

    def _select(self, weight: Tensor) -> None:
        # of two selections by the same order the smaller lies within the larger
        self.write_mask("backward_mask", largest_magnitudes(weight, self.trained_slots, self.usable))
        self.write_mask("forward_mask", largest_magnitudes(weight, self.kept_edges, self.usable))


def _trained(config: TopKastConfig, slots: Slots) -> int:
    """How many slots get a gradient."""
    trained = EdgeBudget(config.backward_density, None)
    if slots.kept is None:
        return trained.edges(slots.numel)
    # a millionth of a slot is the noise of densities that were computed, as 1 - 0.7
    return math.ceil(slots.kept * trained.share(None) / config.budget.share(None) - Fraction(1, 10**6))
