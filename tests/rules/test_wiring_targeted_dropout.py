"""Targeted dropout: what is dropped, when, how often; its two signs; and that a resume draws the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.references.prescribed import at, drawn, through_two_by_two

from dnw_core.config.rules import TargetedDropoutConfig
from dnw_core.models.build import build_rule
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots


def rule_for(shape: tuple[int, int], seed: int = 0, usable: torch.Tensor | None = None, **settings: Any) -> WiringRule:
    """The rule for a weight of this shape, a tenth of the slots kept unless told otherwise."""
    values = {"density": 0.1, "weight_sign": "corrected", **settings}
    config = TargetedDropoutConfig(rule="targeted-dropout", **values)
    return build_rule(config, Slots(shape, usable=usable), seed, "w")


@pytest.mark.parametrize("probability", [0.95, 0.5, 0.2])
def test_each_target_is_dropped_with_the_probability_and_no_top_edge_ever(probability: float) -> None:
    """Over 20 steps of 36,000 targets: the share dropped is within five standard deviations, overall and per slot."""
    weight = drawn((200, 200), 4)
    rule = rule_for((200, 200), drop_probability=probability)
    top = rule.edges(weight)
    steps, targets = 20, int((~top).sum())
    assert int(top.sum()) == 4_000
    on = torch.zeros(200, 200)
    for step in range(steps):
        kept = rule(weight) != 0
        assert bool(kept[top].all())
        share = float((~kept[~top]).double().mean())
        assert abs(share - probability) < 5 * (probability * (1 - probability) / targets) ** 0.5
        on += kept
        rule.after_step(at(rule, weight), step)
    # independent over steps: the times a slot is on are binomial, so their variance is steps * p * (1 - p)
    spread = float(on[~top].double().var()) / (steps * probability * (1 - probability))
    assert 0.95 < spread < 1.05


def test_slots_and_steps_are_dropped_independently() -> None:
    """Neighbouring slots, neighbouring steps and other seeds agree no more often than chance, one half."""
    weight = drawn((200, 200), 4)
    rule, other = (rule_for((200, 200), seed, drop_probability=0.5) for seed in (0, 1))
    off = ~rule.edges(weight)
    first = (rule(weight) != 0)[off]
    elsewhere = (other(weight) != 0)[off]
    rule.after_step(at(rule, weight), 0)
    second = (rule(weight) != 0)[off]
    tolerance = 5 * 0.5 / off.sum().sqrt()
    for a, b in ((first, second), (first, elsewhere), (first[1:], first[:-1])):
        assert abs(float((a == b).double().mean()) - 0.5) < tolerance


def test_kept_weights_are_not_rescaled() -> None:
    """What is on has exactly its own value (Q5)."""
    weight = drawn((40, 40), 4)
    effective = rule_for((40, 40), drop_probability=0.5)(weight)
    assert torch.equal(effective, torch.where(effective != 0, weight, 0.0))
    assert 160 < int((effective != 0).sum()) < 1_600


def test_certain_drops_and_no_drops() -> None:
    """Probability one leaves the top edges, probability zero everything."""
    weight = drawn((30, 30), 4)
    assert torch.equal(rule_for((30, 30), drop_probability=1.0)(weight) != 0, rule_for((30, 30)).edges(weight))
    assert torch.equal(rule_for((30, 30), drop_probability=0.0)(weight), weight)


def test_evaluation_drops_every_target() -> None:
    """In evaluation exactly the top edges are on, ranked as the settings say."""
    weight = drawn((30, 30), 4)
    usable = torch.rand(30, 30, generator=torch.Generator().manual_seed(1)) < 0.5
    for ranked, among in (("reference", torch.ones_like(usable)), ("corrected", usable)):
        rule = rule_for((30, 30), usable=usable, ranked_slots=ranked, drop_probability=0.5).eval()
        magnitudes = torch.where(among, weight.double().abs(), -1.0)
        threshold = magnitudes.flatten().sort(descending=True).values[89]
        assert torch.equal(rule(weight) != 0, magnitudes >= threshold)
        assert torch.equal(rule.edges(weight), magnitudes >= threshold)


@pytest.mark.parametrize("sign", ["reference", "corrected"])
def test_gradient_by_hand(sign: str) -> None:
    """Targets always dropped: y uses |3|, |-2| or their signs; the gradient is g x^T on the edges, times the sign."""
    found = through_two_by_two(rule_for((2, 2), density=0.5, drop_probability=1.0, weight_sign=sign))
    s = -1.0 if sign == "reference" else 1.0
    assert found == ([[15.0, -14.0 * s]], [[5.0, 0.0], [0.0, 70.0 * s]], [[3.0, -20.0 * s]])


def test_dropped_slots_get_no_gradient_and_survivors_theirs() -> None:
    """Against float64: gradient of <g, |w| m> is g sign(w) m, with this step's mask."""
    weight = drawn((50, 60), 4).requires_grad_()
    rule = rule_for((50, 60), drop_probability=0.7, weight_sign="reference")
    incoming = torch.randn(50, 60, generator=torch.Generator().manual_seed(2))
    effective = rule(weight)
    effective.backward(incoming)
    mask = (effective != 0).double()
    assert weight.grad is not None
    assert torch.equal(weight.grad.double(), incoming.double() * weight.detach().double().sign() * mask)
    assert 300 < int(mask.sum()) < 3_000


def test_the_mask_is_a_function_of_the_buffers() -> None:
    """Twice in a step, in a copy, and in another rule that loads the state: the same; after a step: another."""
    weight = drawn((60, 60), 4)
    rule = rule_for((60, 60), drop_probability=0.5)
    for step in range(3):
        rule.after_step(at(rule, weight), step)
    torch.manual_seed(0)  # no outside random state matters
    now = rule(weight)
    torch.manual_seed(1)
    assert torch.equal(rule(weight), now)
    assert torch.equal(copy.deepcopy(rule)(weight), now)
    resumed = rule_for((60, 60), seed=9, drop_probability=0.5)
    assert not torch.equal(resumed(weight), now)
    resumed.load_state_dict(rule.state_dict())
    assert torch.equal(resumed(weight), now)
    for each in (rule, resumed):
        each.after_step(at(each, weight), 3)
    assert not torch.equal(rule(weight), now)
    assert torch.equal(rule(weight), resumed(weight))


def test_the_draw_is_the_same_however_it_is_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing in pieces that fit the cache changes speed alone."""
    weight = drawn((60, 61), 4)
    rule = rule_for((60, 61), drop_probability=0.5)
    whole = rule(weight)
    monkeypatch.setattr("dnw_core.wiring.rules.targeted_dropout.CPU_DRAW", 64)
    assert torch.equal(rule(weight), whole)
