"""Targeted dropout: weights outside the k largest are dropped at random, so that training learns to do without them.

Facts 4.1, Q4 and Q5: the targets are dropped with probability rho from the first step on, without a ramp and without
rescaling, and evaluation drops all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import TargetedDropoutConfig
from dnw_core.seeds import derive_seed
from dnw_core.wiring.masking import masked, masked_values, plainly_masked
from dnw_core.wiring.rule import AttachedRule
from dnw_core.wiring.rules.top_edges import RankedRule
from dnw_core.wiring.slots import Slots
from dnw_core.wiring.transforms import differentiating_by_transform, never_compiled

# entries that are drawn at once on a CPU, so that the numbers stay in the cache
CPU_DRAW = 1 << 18


class _KeptMagnitude(torch.autograd.Function):
    """|w| inside the mask and zero outside; the gradient is the incoming one times sign(w), inside the mask."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight, mask)
        return masked_values(weight, mask).abs_()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        weight, mask = ctx.saved_tensors
        return weight.sign().mul_(grads[0]).mul_(mask), None


class TargetedDropout(RankedRule):
    """Always keeps the k largest |w|; of all others, each is dropped with ``drop_probability`` in every training step.

    Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton: "Learning Sparse Networks Using Targeted Dropout", 2019,
    arXiv:1905.13678, for weights (in the paper "targeted weight dropout").

    Gradient: of the effective weight, at the slots that were not dropped in this step; times sign(w) where that is |w|.

    ``weight_sign="reference"`` trains and evaluates with |w| (Q4), so that no edge can be negative; ``"corrected"``
    with the signed weight.

    What is dropped is a function of two buffers, a seed and the number of steps done: the same mask however often it
    is asked for in a step, and the same after a resume.
    """

    seed: Tensor
    steps: Tensor

    def __init__(self, config: TargetedDropoutConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.drop_probability = config.drop_probability
        self.signed = config.weight_sign == "corrected"
        self.register_buffer("seed", torch.randint(2**63 - 1, (), generator=generator, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The effective weight: in training the top edges and this step's survivors, in evaluation the top edges."""
        mask = self.largest(weight)
        if self.training:
            mask = mask | self._survivors(weight.device)
        if self.signed:
            return masked(weight, mask)
        if differentiating_by_transform():
            return plainly_masked(weight.abs(), mask)
        effective: Tensor = _KeptMagnitude.apply(weight, mask)
        return effective

    @override
    def after_step(self, here: AttachedRule, step: int) -> None:
        """Go on to the next step's mask."""
        self.steps += 1

    # a generator and values that are read: not one traceable graph
    @never_compiled
    def _survivors(self, device: torch.device) -> Tensor:
        """Return this step's draw: true, for each slot on its own, with probability 1 - drop_probability."""
        # hashed, so that neighbouring steps have nothing in common
        generator = torch.Generator(device).manual_seed(derive_seed(int(self.seed), int(self.steps)))
        survives = torch.empty(self.slots.numel, dtype=torch.bool, device=device)
        at_once = CPU_DRAW if device.type == "cpu" else self.slots.numel
        for piece in torch.split(survives, at_once):
            drawn = torch.rand(piece.numel(), generator=generator, device=device)
            torch.ge(drawn, self.drop_probability, out=piece)
        return survives.view(self.slots.shape)
