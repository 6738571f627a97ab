"""Two bare weights whose gradients a test prescribes, trained with a rule; and SGD and ranking once more, in numpy.

The loss is the sum of effective weight times prescribed gradient, so what a rule makes of a gradient can be followed
number by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.layers import settle
from dnw_core.wiring.rule import AttachedRule, Run, WiringRule, effective_weights
from dnw_core.wiring.slots import Slots

Numbers = NDArray[np.float64]
SHAPES = ((6, 5), (4, 10))
RATE, MOMENTUM, DECAY = 0.125, 0.75, 0.0625


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal numbers without zeros or ties."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def at(rule: WiringRule, weight: Tensor) -> AttachedRule:
    """The rule where it is attached to this weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    attach(layer, "weight", rule)
    (here,) = attached_rules(layer)
    return here


def through_two_by_two(rule: WiringRule) -> tuple[Any, Any, Any]:
    """y = W x for W = [[3, 1], [-1/2, -2]] and x = [5, 7]; return y and, of y's gradient [1, 10], those of W and x."""
    here = at(rule, torch.tensor([[3.0, 1.0], [-0.5, -2.0]]))
    x = torch.tensor([[5.0, 7.0]], requires_grad=True)
    y = here.module(x)
    y.backward(torch.tensor([[1.0, 10.0]]))
    assert here.gradient is not None
    assert x.grad is not None
    return y.tolist(), here.gradient.tolist(), x.grad.tolist()


class Prescribed:
    """The weights of these shapes with a rule, their optimiser and their hooks."""

    def __init__(
        self,
        config: Any,
        run: Run | None = None,
        shapes: Sequence[tuple[int, ...]] = SHAPES,
        weights: Sequence[Any] | None = None,
        usable: Tensor | None = None,
        optimiser: type[torch.optim.Optimizer] | None = None,
    ) -> None:
        values = [drawn(shape, index) for index, shape in enumerate(shapes)]
        if weights is not None:
            values = [torch.tensor(weight) for weight in weights]
        self.network = nn.ModuleList(nn.Module() for _ in values)
        slots = settle(config, [Slots(tuple(value.shape), usable=usable) for value in values])
        for index, (module, value) in enumerate(zip(self.network, values, strict=True)):
            module.register_parameter("weight", nn.Parameter(value))
            attach(module, "weight", build_rule(config, slots[index], 0, str(index)))
        if optimiser is None:
            self.optimiser: torch.optim.Optimizer = torch.optim.SGD(
                self.network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY
            )
        else:
            self.optimiser = optimiser(self.network.parameters(), lr=RATE, weight_decay=DECAY)  # type: ignore[call-arg]
        self.wiring = Wiring(self.network, self.optimiser)
        if run is not None:
            self.wiring.begin(run)

    @property
    def attached(self) -> list[AttachedRule]:
        """The attached rules, first weight first."""
        return self.wiring.attached

    def effective(self) -> list[Tensor]:
        """The effective weights of this moment."""
        return [module.weight.detach().clone() for module in self.network]

    def backward(self, gradients: Sequence[Tensor | None], parts: int = 1) -> None:
        """Give each effective weight its gradient; in several backward passes, as so many workers would."""
        self.optimiser.zero_grad()
        for _ in range(parts):
            with effective_weights():
                pairs = zip(self.network, gradients, strict=True)
                losses = [(module.weight * gradient).sum() for module, gradient in pairs if gradient is not None]
                (torch.stack(losses).sum() / parts).backward()

    def step(self, step: int, gradients: Sequence[Tensor | None]) -> None:
        """One training step."""
        self.backward(gradients)
        self.wiring.before_step(step)
        self.optimiser.step()
        self.wiring.after_step(step)


def gradients_of(step: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    """Gradients to prescribe at a step."""
    return [drawn(shape, 100 * step + index + 10) for index, shape in enumerate(shapes)]


def numbers(tensor: Tensor) -> Numbers:
    """The tensor's values as float64."""
    return tensor.detach().double().numpy().copy()


def sgd(weight: Numbers, momentum: Numbers, gradient: Numbers) -> None:
    """One step of SGD, in place; momentum starts at zero."""
    momentum *= MOMENTUM
    momentum += gradient + DECAY * weight
    weight -= RATE * momentum


def top(values: Numbers, k: int) -> NDArray[np.bool_]:
    """Mask of the k largest magnitudes, by a stable sort."""
    mask = np.zeros(values.size, dtype=bool)
    mask[np.argsort(-np.abs(values).ravel(), kind="stable")[:k]] = True
    return mask.reshape(values.shape)


def assert_close(found: Tensor, expected: Numbers) -> None:
    """Equal within float32's rounding over a few dozen steps."""
    np.testing.assert_allclose(numbers(found), expected, rtol=1e-4, atol=1e-5)
