"""What a wiring rule is refused for: attached where it cannot be, or keeping other edges than it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnw_core.config.budget import EdgeBudget
from dnw_core.config.rules import TopEdgesConfig
from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots


def test_bad_attachments_are_refused() -> None:
    """No such parameter, a second rule on a weight, a wrong shape: each is one clear sentence."""
    module = nn.Linear(4, 4)
    config = TopEdgesConfig(rule="top-edges", density=0.25)
    with pytest.raises(ValueError, match="no parameter 'weights' \\(its parameters: weight, bias\\)"):
        attach(module, "weights", build_rule(config, Slots((4, 4)), 0, "w"))
    with pytest.raises(ValueError, match="the rule is for shape"):
        attach(module, "weight", build_rule(config, Slots((4, 5)), 0, "w"))
    attach(module, "weight", build_rule(config, Slots((4, 4)), 0, "w"))
    with pytest.raises(ValueError, match="has a wiring rule already"):
        attach(module, "weight", build_rule(config, Slots((4, 4)), 0, "w"))


class Liar(WiringRule):
    """Promises what it is told to, and keeps all."""

    together: int | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """The weight itself."""
        return weight

    def edges(self, weight: Tensor) -> Tensor:
        """Every slot."""
        return torch.ones_like(weight, dtype=torch.bool)

    @classmethod
    def pool_promised_edges(cls, rules: Any) -> int | None:
        """What the test sets."""
        return cls.together


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that keeps another number of edges than it promises, alone or together, fails at once."""
    module = nn.Linear(4, 4)
    attach(module, "weight", Liar(Slots((4, 4)), EdgeBudget(density=0.25, width=None)))
    (here,) = attached_rules(module)
    with pytest.raises(AssertionError, match="16 edges, 4 promised"):
        here.edges()
    module = nn.Linear(4, 4)
    attach(module, "weight", Liar(Slots((4, 4)), None))
    assert int(Wiring(module).edges()["weight"].sum()) == 16
    monkeypatch.setattr(Liar, "together", 15)
    with pytest.raises(AssertionError, match="16 edges in all, 15 promised by Liar"):
        Wiring(module).edges()
