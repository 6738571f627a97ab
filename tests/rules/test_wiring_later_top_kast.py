"""Top-KAST: the two sets, the penalty, and that nothing moves outside the larger set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.references.prescribed import (
    MOMENTUM,
    RATE,
    SHAPES,
    Prescribed,
    assert_close,
    drawn,
    gradients_of,
    numbers,
    top,
)

from dnw_core.config.later_rules import TopKastConfig
from dnw_core.wiring.rules.top_kast import TopKast


def config(**settings: Any) -> TopKastConfig:
    """Settings with a fifth of the slots kept and half of them trained."""
    return TopKastConfig(rule="top-kast", **{"density": 0.2, "backward_density": 0.5, **settings})


def rule_of(trial: Prescribed, index: int = 0) -> TopKast:
    """The rule of one weight."""
    rule = trial.attached[index].rule
    assert isinstance(rule, TopKast)
    return rule


def test_by_hand() -> None:
    """One edge and one trained slot more, of four; density 1/4, so the penalty is four times as strong outside."""
    trial = Prescribed(config(density=0.25, exploration_decay=0.5), weights=[[[1.0, -2.0, 4.0, 0.5]]])
    assert trial.effective()[0].tolist() == [[0.0, 0.0, 4.0, 0.0]]
    assert rule_of(trial).backward_mask.tolist() == [[False, True, True, False]]
    trial.backward([torch.tensor([[10.0, 20.0, 30.0, 40.0]])])
    here = trial.attached[0]
    assert here.gradient is not None
    assert here.gradient.tolist() == [[0.0, 20.0, 30.0, 0.0]]
    trial.wiring.before_step(0)
    # 20 + 0.5 * 4 * (-2) and 30 + 0.5 * 4, less the 1/16 of the weight that SGD adds itself
    assert here.gradient.tolist() == [[0.0, 16.125, 31.75, 0.0]]
    trial.optimiser.step()
    trial.wiring.after_step(0)
    # -2 - 16 / 8 and 4 - 32 / 8: now the second slot is the edge, and the first gets a gradient
    assert here.weight.tolist() == [[1.0, -4.0, 0.0, 0.5]]
    assert here.edges().tolist() == [[False, True, False, False]]
    assert rule_of(trial).backward_mask.tolist() == [[True, True, False, False]]


def test_against_a_plain_run_in_float64() -> None:
    """Weights, momentum and both sets over a run in which slots come and go; the penalty in place of decay."""
    trial = Prescribed(config(exploration_decay=0.125))
    weights = [numbers(drawn(shape, index)) for index, shape in enumerate(SHAPES)]
    momenta = [np.zeros(shape) for shape in SHAPES]
    came = 0
    for step in range(12):
        for index, gradient in enumerate(gradients_of(step)):
            weight, size = weights[index], weights[index].size
            inner, outer = top(weight, size // 5), top(weight, size // 2)
            assert np.array_equal(trial.attached[index].edges().numpy(), inner)
            assert np.array_equal(rule_of(trial, index).backward_mask.numpy(), outer)
            learned = numbers(gradient) + 0.125 * weight * np.where(inner, 1, 5)
            momenta[index] = (MOMENTUM * momenta[index] + learned) * outer
            weight -= RATE * momenta[index]
            came += int((top(weight, size // 5) & ~outer).sum() + (top(weight, size // 2) & ~outer).sum())
        trial.step(step, gradients_of(step))
        for here, weight, momentum in zip(trial.attached, weights, momenta, strict=True):
            assert_close(here.weight, weight)
            assert here.momentum is not None
            assert_close(here.momentum, momentum)
        trial.wiring.edges()
    assert came > 0


@pytest.mark.parametrize("optimiser", [None, torch.optim.AdamW, torch.optim.RMSprop])
def test_nothing_moves_outside_the_larger_set(optimiser: type[torch.optim.Optimizer] | None) -> None:
    """To the bit, under decay and momentum, with any optimiser; inside everything moves."""
    trial = Prescribed(config(), optimiser=optimiser)
    for step in range(6):
        before = [here.weight.detach().clone() for here in trial.attached]
        outer = [rule_of(trial, index).backward_mask.clone() for index in range(2)]
        trial.step(step, gradients_of(step))
        for here, weight, mask in zip(trial.attached, before, outer, strict=True):
            assert torch.equal(here.weight != weight, mask)
            if optimiser is None:
                assert here.momentum is not None
                assert not here.momentum[~mask].any()
                assert here.momentum[mask].all()


def test_the_sets_are_nested_and_exact_on_ties() -> None:
    """Equal magnitudes: the first slots, the edges among those with a gradient."""
    trial = Prescribed(config(), weights=[[[1.0, -1.0] * 5, [1.0, 1.0] * 5]])
    assert trial.attached[0].edges().flatten().nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert rule_of(trial).backward_mask.flatten().nonzero().flatten().tolist() == list(range(10))


def test_a_step_without_a_gradient_changes_nothing() -> None:
    """The optimiser passes such a weight over, and so does the rule."""
    trial = Prescribed(config())
    weight = trial.attached[0].weight.detach().clone()
    trial.step(0, [None, gradients_of(0)[1]])
    assert torch.equal(trial.attached[0].weight, weight)
    assert trial.attached[0].momentum is None


def test_erk_scales_the_larger_set_alike() -> None:
    """2 and 7 edges of 8 and 80 slots at a tenth (shares 2.25 and 6.75); with a gradient 4 times as many, or all."""
    trial = Prescribed(config(density=0.1, backward_density=0.4, layers="erk"), shapes=[(2, 4), (8, 10)])
    assert [int(own.sum()) for own in trial.wiring.edges().values()] == [2, 7]
    assert [int(rule_of(trial, index).backward_mask.sum()) for index in range(2)] == [8, 28]
    trial = Prescribed(config(density=0.1, backward_density=0.75, layers="erk"), shapes=[(2, 4), (8, 10)])
    assert [int(rule_of(trial, index).backward_mask.sum()) for index in range(2)] == [8, 53]


def test_slots_that_are_not_read_are_in_neither_set() -> None:
    """However large; fewer than edges are refused."""
    usable = torch.tensor([[True, False], [True, True]])
    weights = [[[1.0, 9.0], [2.0, 3.0]]]
    trial = Prescribed(config(density=0.5, backward_density=1.0), weights=weights, usable=usable)
    assert trial.attached[0].edges().tolist() == [[False, False], [True, True]]
    assert torch.equal(rule_of(trial).backward_mask, usable)
    with pytest.raises(ValueError, match="4 edges are to be kept, but only 3 slots are usable"):
        Prescribed(config(density=1.0, backward_density=1.0), weights=weights, usable=usable)
