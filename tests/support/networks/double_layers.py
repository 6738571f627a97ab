"""Linear layers in double precision with a rule that moves edges, and SGD with momentum and decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dnw_core.config import RULES
from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.layers import settle
from dnw_core.wiring.rule import AttachedRule, Run
from dnw_core.wiring.slots import Slots

SIZES = [(9, 4), (12, 9), (12, 12), (2, 12)]


class DoubleLayers:
    """Layers of [receivers, senders], half of the slots kept unless told otherwise; trained on a small regression."""

    def __init__(
        self,
        rule: str,
        sizes: Sequence[tuple[int, int]],
        run: Run,
        seed: int = 0,
        usable: Tensor | None = None,
        **given: Any,
    ) -> None:
        config: Any = RULES[rule](**{"rule": rule, "density": 0.5, **given})
        torch.manual_seed(0)
        self.network = nn.Sequential(*(nn.Linear(b, a, bias=False) for a, b in sizes)).double()
        settled = settle(config, [Slots(size, usable=usable) for size in sizes])
        for index, (layer, slots) in enumerate(zip(self.network, settled, strict=True)):
            attach(layer, "weight", build_rule(config, slots, seed, str(index)))
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        self.wiring = Wiring(self.network, self.optimiser)
        self.wiring.begin(run)
        self.attached = self.wiring.attached

    @property
    def rule(self) -> Any:
        """The rule of the first weight."""
        return self.attached[0].rule

    def lay_out(
        self, weight: list[float], gradient: list[float] | None, momentum: list[float], index: int = 0
    ) -> AttachedRule:
        """Give one weight edges where ``weight`` is not zero (what it lacks is zero), a gradient and a momentum."""
        here = self.attached[index]
        padded = weight + [0.0] * (len(momentum) - len(weight))
        values, buffer = (torch.tensor(one, dtype=torch.float64).view_as(here.weight) for one in (padded, momentum))
        here.weight.data.copy_(values)
        here.rule.present.copy_(values != 0)  # type: ignore[operator]
        if hasattr(here.rule, "present_count"):
            here.rule.present_count.fill_(values.count_nonzero())  # type: ignore[operator]
        if gradient is not None:
            here.weight.grad = torch.tensor(gradient, dtype=torch.float64).view_as(here.weight)
        self.optimiser.state[here.weight]["momentum_buffer"] = buffer
        return here

    def loss(self, weights: Sequence[Tensor], step: int) -> Tensor:
        """Of a small regression on this step's batch."""
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        hidden = x
        for weight in weights:
            hidden = torch.tanh(hidden @ weight.T)
        return (hidden - torch.stack([x[:, 0] * x[:, 1], x[:, 2].abs()], dim=1)).square().mean()

    def gradients(self, weights: Sequence[Tensor], masks: Sequence[Tensor], step: int) -> tuple[Tensor, ...]:
        """Of the effective weights at this step, for plain weights and masks."""
        effective = [(weight * mask).requires_grad_() for weight, mask in zip(weights, masks, strict=True)]
        return torch.autograd.grad(self.loss(effective, step), effective)

    def train(self, first: int, until: int) -> None:
        """Take these steps of the run."""
        for step in range(first, until):
            self.optimiser.zero_grad()
            self.loss([layer.weight for layer in self.network], step).backward()  # type: ignore[misc]
            self.wiring.before_step(step)
            self.optimiser.step()
            self.wiring.after_step(step)
