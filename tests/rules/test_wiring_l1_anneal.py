"""L1 + anneal: the schedule, what is pruned, the penalty's gradient, and going on after a resume."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.references.prescribed import at, drawn
from torch import nn

from dnw_core.config.rules import L1AnnealConfig
from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run, effective_weights
from dnw_core.wiring.rules.l1_anneal import L1Anneal
from dnw_core.wiring.slots import Slots


def rule_for(
    shape: tuple[int, int], epochs: int | None, usable: torch.Tensor | None = None, **settings: Any
) -> L1Anneal:
    """The rule for a weight of this shape, told of its run."""
    config = L1AnnealConfig(rule="l1-anneal", **{"density": 0.1, **settings})
    rule = build_rule(config, Slots(shape, usable=usable), 0, "w")
    assert isinstance(rule, L1Anneal)
    if epochs is not None:
        rule.begin(Run(epochs, steps_per_epoch=1))
    return rule


# 100 slots, 10 kept: 10 + 90 (1 - p)^exponent, by hand
@pytest.mark.parametrize(
    ("epochs", "settings", "counts"),
    [
        (4, {"anneal_end": 1.0, "exponent": 1.0}, [78, 55, 32, 10]),  # 77.5 and 32.5 round to the even one
        (4, {"anneal_end": 0.5, "exponent": 3.0}, [21, 10, 10, 10]),  # 10 + 90/8 = 21.25
        (10, {"anneal_start": 0.2, "anneal_end": 0.6, "exponent": 2.0}, [100, 100, 61, 32, 16, 10, 10, 10, 10, 10]),
        (4, {"anneal_start": 0.5, "anneal_end": 0.5}, [100, 10, 10, 10]),  # all at once, when the start is reached
        (4, {"anneal_start": 0.0, "anneal_end": 0.0}, [10, 10, 10, 10]),
        (3, {"anneal_start": 1.0, "anneal_end": 1.0}, [100, 100, 10]),
        (1, {"anneal_end": 1.0}, [10]),
        (1, {}, [10]),
        (2, {"anneal_end": 1.0, "exponent": 1.0}, [55, 10]),
        (2, {}, [10, 10]),
        (3, {"anneal_end": 0.9999999, "exponent": 0.01}, [100, 99, 10]),
    ],
)
def test_counts_follow_the_schedule_exactly(epochs: int, settings: dict[str, Any], counts: list[int]) -> None:
    """After each epoch the promised number is the formula's and that many edges are there; k at the end."""
    weight = drawn((10, 10), 4)
    rule = rule_for((10, 10), epochs, **settings)
    assert rule.promised_edges == 100
    for epoch, count in enumerate(counts):
        rule.after_epoch(at(rule, weight), epoch)
        assert rule.promised_edges == count
        assert int(rule.edges(weight).sum()) == count
        assert int((rule(weight) != 0).sum()) == count


def test_the_smallest_go_and_none_comes_back() -> None:
    """Against a plain float64 ranking, while the weight changes between the epochs."""
    usable = torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) < 0.6
    rule = rule_for((40, 50), 8, usable, anneal_end=1.0)
    present = usable.clone()
    assert torch.equal(rule.edges(drawn((40, 50), 4)), usable)
    assert rule.promised_edges == int(usable.sum())
    for epoch in range(8):
        weight = drawn((40, 50), epoch)
        rule.after_epoch(at(rule, weight), epoch)
        magnitudes = torch.where(present, weight.double().abs(), -1.0).flatten()
        expected = torch.zeros(2_000, dtype=torch.bool)
        expected[magnitudes.sort(descending=True).indices[: rule.promised_edges]] = True
        assert torch.equal(rule.edges(weight).flatten(), expected)
        assert not (rule.edges(weight) & ~present).any()
        present = rule.edges(weight).clone()
    assert int(present.sum()) == 200


def test_the_penalty_is_in_the_gradient_and_not_in_the_loss() -> None:
    """Hand-computed: dL/dW is g x^T plus factor * sign(w) on the edges; nothing elsewhere; nothing at w = 0."""
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 0.0, 0.1], [-0.5, -2.0, 0.2]]))
    rule = rule_for((2, 3), 1, density=0.5, l1_weight=0.25)
    attach(layer, "weight", rule)
    (attached,) = attached_rules(layer)
    x = torch.tensor([[5.0, 7.0, 1.0]])
    incoming = torch.tensor([[1.0, 10.0]])
    layer(x).backward(incoming)
    Wiring(layer).before_step(0)
    assert attached.weight.grad is not None
    assert attached.weight.grad.tolist() == [[5.25, 7.0, 1.25], [49.75, 69.75, 10.25]]
    rule.after_epoch(attached, 0)
    attached.weight.grad = None
    y = layer(x)
    assert y.tolist() == [[15.0, -16.5]]
    y.backward(incoming)
    Wiring(layer).before_step(1)
    assert attached.weight.grad is not None
    assert attached.weight.grad.tolist() == [[5.25, 0.0, 0.0], [49.75, 69.75, 0.0]]


def test_the_penalty_counts_once_a_step() -> None:
    """However often a graph is applied, as the discrete network's, and by however many workers a step is computed."""
    layer = nn.Linear(2, 2, bias=False)
    attach(layer, "weight", rule_for((2, 2), 1, density=0.5, l1_weight=0.5))
    (attached,) = attached_rules(layer)
    x = torch.zeros(1, 2)
    for _ in range(2):
        with effective_weights():
            layer(layer(layer(x))).sum().backward()
    Wiring(layer).before_step(0)
    assert attached.weight.grad is not None
    assert torch.equal(attached.weight.grad, 0.5 * attached.weight.detach().sign())


def test_without_a_penalty_the_gradient_is_the_plain_one() -> None:
    """l1_weight 0: masked autograd."""
    layer = nn.Linear(7, 6, bias=False)
    incoming = drawn((6, 7), 8)
    attach(layer, "weight", rule_for((6, 7), 1, l1_weight=0.0))
    (attached,) = attached_rules(layer)
    layer.weight.backward(incoming)
    Wiring(layer).before_step(0)
    assert attached.weight.grad is not None
    assert torch.equal(attached.weight.grad, incoming)


def test_a_resumed_rule_goes_on_where_it_was() -> None:
    """Buffers restored and begin() called again: the same edges after the next epochs; the count comes along."""
    first = rule_for((20, 20), 6, anneal_end=1.0)
    for epoch in range(3):
        first.after_epoch(at(first, drawn((20, 20), epoch)), epoch)
    resumed = rule_for((20, 20), 6, anneal_end=1.0)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    assert resumed.promised_edges == first.promised_edges < 400
    for epoch in range(3, 6):
        for rule in (first, resumed):
            rule.after_epoch(at(rule, drawn((20, 20), epoch)), epoch)
        assert torch.equal(first.present, resumed.present)
    assert resumed.promised_edges == 40
