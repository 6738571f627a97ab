"""The contract every registered wiring rule keeps, on any weight of any module."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import nn

from dnw_core.models.build import build_rule
from dnw_core.wiring import config as wiring_config
from dnw_core.wiring.budget import EdgeBudget
from dnw_core.wiring.config import RULE_CLASSES
from dnw_core.wiring.rule import WiringRule, attach, attached_rules, effective_weights
from dnw_core.wiring.slots import Slots

# one entry a registered rule: settings for the trials below
SETTINGS: dict[str, dict[str, Any]] = {
    "complete": {},
    "top-edges": {"density": 0.25},
    "fixed-random": {"density": 0.25},
    "constant-fan": {"factor": 2},
    "no-update": {"density": 0.25},
    "targeted-dropout": {"density": 0.25, "drop_probability": 0.5},
    "l1-anneal": {"density": 0.25, "l1_weight": 1e-3},
    "lottery-ticket": {"density": 0.25},
    "fine-tune": {"density": 0.25},
}
KEPT_PARTS = {"complete": 1, "constant-fan": 2}  # a quarter is kept by all others
MODULES = {
    "linear": lambda: nn.Linear(12, 9),
    "conv": lambda: nn.Conv2d(6, 8, 3, padding=1),
}
RULES = sorted(RULE_CLASSES)
EPOCHS = 6


def config_of(rule: str) -> Any:
    """The settings object of a registered rule."""
    union = get_args(wiring_config.WiringConfig)[0]
    for member in get_args(union):
        if member.model_fields["rule"].annotation.__args__ == (rule,):
            return member(rule=rule, **SETTINGS[rule])
    raise AssertionError(f"{rule} has no configuration in the union")


def wired(rule: str, module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with the rule attached to its weight, told what a trial tells it at the start."""
    shape = tuple(module.weight.shape)  # type: ignore[union-attr]
    built = build_rule(config_of(rule), Slots(shape), seed, "weight")
    built.begin(EPOCHS)
    built.inherit(torch.randn(shape, generator=torch.Generator().manual_seed(3)))
    attach(module, "weight", built)
    return module


def make(rule: str, kind: str) -> nn.Module:
    """A fresh module of a kind with a rule."""
    torch.manual_seed(1)
    return wired(rule, MODULES[kind]())


def batch(kind: str) -> torch.Tensor:
    """An input for a kind of module."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(5, 12, generator=generator) if kind == "linear" else torch.randn(2, 6, 5, 5, generator=generator)


def train(module: nn.Module, kind: str, steps: int, epoch: int = 0) -> None:
    """An epoch of a few optimiser steps, with the rule told of each and of the end."""
    optimiser = torch.optim.SGD(module.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-2)
    for step in range(steps):
        optimiser.zero_grad()
        with effective_weights():
            (module(batch(kind)) ** 2).mean().backward()
        optimiser.step()
        for attached in attached_rules(module):
            attached.rule.after_step(attached.weight, step)
    for attached in attached_rules(module):
        attached.rule.after_epoch(attached.weight, epoch)


def test_every_registered_rule_is_tested_here() -> None:
    """A rule that is registered but not listed would escape the contract."""
    assert set(SETTINGS) == set(RULE_CLASSES)
    union = get_args(get_args(wiring_config.WiringConfig)[0])
    assert {member.model_fields["rule"].annotation.__args__[0] for member in union} == set(RULE_CLASSES)


@pytest.mark.parametrize("kind", sorted(MODULES))
@pytest.mark.parametrize("rule", RULES)
def test_exactly_k_edges_at_every_step(rule: str, kind: str) -> None:
    """In evaluation the promised number of effective weights is not zero, and they are the edges, at every epoch."""
    module = make(rule, kind)
    (attached,) = attached_rules(module)
    for epoch in range(EPOCHS):
        train(module.train(), kind, 1, epoch)
        edges = attached.edges()
        assert int(edges.sum()) == attached.rule.promised_edges
        effective = module.eval().weight
        assert torch.equal(effective != 0, edges)  # type: ignore[arg-type]
        kept = attached.weight[edges]
        # Q4: the reference's targeted dropout works with |w|
        assert torch.equal(effective[edges], kept.abs() if rule == "targeted-dropout" else kept)  # type: ignore[index]
    assert int(attached.edges().sum()) == attached.weight.numel() // KEPT_PARTS.get(rule, 4)


@pytest.mark.parametrize("rule", RULES)
def test_state_dict_carries_everything(rule: str) -> None:
    """A fresh module with another seed computes the same after loading the first one's state."""
    first = make(rule, "conv")
    train(first, "conv", 3)
    torch.manual_seed(99)
    second = wired(rule, MODULES["conv"](), seed=7)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch("conv")), second(batch("conv")))
    train(first, "conv", 3, epoch=1)
    train(second, "conv", 3, epoch=1)
    # momentum starts anew in both, so they must go on alike
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rule", RULES)
def test_deepcopy_is_independent(rule: str) -> None:
    """Training a copy leaves the original alone."""
    module = make(rule, "linear")
    before = module(batch("linear")).detach().clone()
    clone = copy.deepcopy(module)
    train(clone, "linear", 2)
    assert torch.equal(module(batch("linear")), before)
    assert not torch.equal(clone(batch("linear")), before)


@pytest.mark.parametrize("rule", RULES)
def test_same_seed_same_edges_other_seed_other_edges(rule: str) -> None:
    """What a rule draws depends on the seed alone."""
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        (attached,) = attached_rules(wired(rule, MODULES["linear"](), seed))
        masks.append(attached.edges())
    assert torch.equal(masks[0], masks[1])
    if rule in ("fixed-random", "constant-fan"):
        assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("rule", RULES)
def test_effective_weight_is_computed_once_a_step(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a graph is applied within ``effective_weights``, the rule runs once."""
    module = make(rule, "linear")
    (attached,) = attached_rules(module)
    calls = []
    original = type(attached.rule).forward
    monkeypatch.setattr(
        type(attached.rule), "forward", lambda self, weight: (calls.append(1), original(self, weight))[1]
    )
    with effective_weights():
        for _ in range(4):
            module(batch("linear"))
    assert len(calls) == 1
    with effective_weights():
        module(batch("linear"))
    assert len(calls) == 2


def test_bad_attachments_are_refused() -> None:
    """No such parameter, a second rule on a weight, a wrong shape: each is one clear sentence."""
    module = nn.Linear(4, 4)
    config = config_of("top-edges")
    with pytest.raises(ValueError, match="no parameter 'weights' \\(its parameters: weight, bias\\)"):
        attach(module, "weights", build_rule(config, Slots((4, 4)), 0, "w"))
    with pytest.raises(ValueError, match="the rule is for shape"):
        attach(module, "weight", build_rule(config, Slots((4, 5)), 0, "w"))
    attach(module, "weight", build_rule(config, Slots((4, 4)), 0, "w"))
    with pytest.raises(ValueError, match="has a wiring rule already"):
        attach(module, "weight", build_rule(config, Slots((4, 4)), 0, "w"))


def test_a_broken_promise_is_noticed() -> None:
    """A rule that keeps another number of edges than it promises fails at once."""

    class Liar(WiringRule):
        """Promises a quarter and keeps all."""

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight

        def edges(self, weight: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(weight, dtype=torch.bool)

    module = nn.Linear(4, 4)
    attach(module, "weight", Liar(Slots((4, 4)), EdgeBudget(density=0.25, width=None)))
    (attached,) = attached_rules(module)
    with pytest.raises(AssertionError, match="16 edges, 4 promised"):
        attached.edges()
