"""SNIP: which edges step 0 chooses over all weights together, and that they are then trained for ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.references.prescribed import (
    DECAY,
    RATE,
    SHAPES,
    Prescribed,
    assert_close,
    drawn,
    gradients_of,
    numbers,
    sgd,
    top,
)

from dnw_core.config.later_rules import SnipConfig
from dnw_core.wiring.rule import Run

HALF = SnipConfig(rule="snip", density=0.5)


def test_the_largest_products_of_all_weights_are_chosen() -> None:
    """Hand-computed scores; a quarter of 4 and of 8 slots are 3 edges in all."""
    trial = Prescribed(
        SnipConfig(rule="snip", density=0.25),
        weights=[[[1.0, -2.0], [3.0, 0.5]], [[4.0, 0.1, -1.0, 2.0], [0.2, 5.0, 1.0, -3.0]]],
    )
    assert [here.rule.promised_edges for here in trial.attached] == [4, 8]
    # |w g|: 1, 8, 3, 5 and 4, 0.1, 1, 6 / 0.2, 0.5, 4, 3
    gradients = [[[1.0, 4.0], [-1.0, 10.0]], [[1.0, 1.0, 1.0, -3.0], [1.0, 0.1, 4.0, 1.0]]]
    trial.step(0, [torch.tensor(gradient) for gradient in gradients])
    first, second = trial.wiring.edges().values()
    assert first.tolist() == [[False, True], [False, True]]
    assert second.tolist() == [[False, False, False, True], [False] * 4]
    assert [here.rule.promised_edges for here in trial.attached] == [2, 1]


def test_ties_go_to_the_first_weight_and_the_lowest_index() -> None:
    """All scores equal: six of twelve slots are the first weight and half of a row."""
    ones = [[[1.0, 1.0]] * 2, [[-1.0] * 4] * 2]
    trial = Prescribed(SnipConfig(rule="snip", density=0.5), weights=ones)
    trial.step(0, [torch.ones(2, 2), torch.ones(2, 4)])
    first, second = trial.wiring.edges().values()
    assert first.all()
    assert second.tolist() == [[True, True, False, False], [False] * 4]


def test_a_weight_may_end_without_an_edge() -> None:
    """The count over all weights is exact nevertheless; a weight without a gradient scores zero."""
    trial = Prescribed(HALF, Run(1, 2))
    trial.step(0, [None, gradients_of(0)[1]])
    edges = list(trial.wiring.edges().values())
    assert [int(own.sum()) for own in edges] == [0, 35]
    assert not trial.effective()[0].any()
    trial.step(1, gradients_of(1))
    trial.wiring.after_epoch(0)
    trial = Prescribed(HALF)
    trial.step(0, [gradients_of(0)[0] * 1e-6, gradients_of(0)[1]])
    assert [int(own.sum()) for own in trial.wiring.edges().values()] == [0, 35]


def test_step_0_is_dense_and_moves_no_weight_with_the_rule() -> None:
    """Weights keep their bits and have no momentum yet; a parameter without the rule is trained."""
    trial = Prescribed(HALF, Run(1, 1))
    free = torch.nn.Parameter(torch.ones(()))
    trial.optimiser.add_param_group({"params": [free]})
    before = [here.weight.detach().clone() for here in trial.attached]
    trial.backward(gradients_of(0))
    for here, gradient, weight, effective in zip(
        trial.attached, gradients_of(0), before, trial.effective(), strict=True
    ):
        assert here.gradient is not None
        assert torch.equal(here.gradient, gradient)
        assert torch.equal(effective, weight)
    free.grad = torch.ones(())
    trial.wiring.before_step(0)
    trial.optimiser.step()
    for here, weight in zip(trial.attached, before, strict=True):
        assert torch.equal(here.weight, weight)
        assert here.momentum is None
    assert free.item() == 1 - RATE * (1 + DECAY)


def test_against_a_plain_run_in_float64() -> None:
    """Masks exactly; weights over the steps after the choice: no gradient outside, decay everywhere."""
    run = Run(3, 4)
    trial = Prescribed(HALF, run)
    weights = [numbers(drawn(shape, index)) for index, shape in enumerate(SHAPES)]
    momenta = [np.zeros(shape) for shape in SHAPES]
    scores = [weight * numbers(gradient) for weight, gradient in zip(weights, gradients_of(0), strict=True)]
    chosen = top(np.concatenate([score.ravel() for score in scores]), 15 + 20)
    masks = [chosen[:30].reshape(SHAPES[0]), chosen[30:].reshape(SHAPES[1])]
    assert masks[0].sum() != 15
    for step in range(run.steps):
        trial.step(step, gradients_of(step))
        if step:
            for weight, momentum, gradient, mask in zip(weights, momenta, gradients_of(step), masks, strict=True):
                sgd(weight, momentum, numbers(gradient) * mask)
        if step % 4 == 3:
            trial.wiring.after_epoch(step // 4)
        for own, mask in zip(trial.wiring.edges().values(), masks, strict=True):
            assert np.array_equal(own.numpy(), mask)
        for here, weight, effective, mask in zip(trial.attached, weights, trial.effective(), masks, strict=True):
            assert_close(here.weight, weight)
            assert_close(effective, weight * mask)


def test_slots_that_are_not_read_are_no_edges() -> None:
    """Whatever their score; and more edges than such slots are refused."""
    usable = torch.tensor([[True, False], [True, True]])
    trial = Prescribed(HALF, weights=[[[1.0, 9.0], [2.0, 3.0]]], usable=usable)
    assert trial.attached[0].rule.promised_edges == 3
    trial.step(0, [torch.ones(2, 2)])
    assert trial.attached[0].edges().tolist() == [[False, False], [True, True]]
    with pytest.raises(ValueError, match="4 edges are to be kept, but only 3 slots are usable"):
        Prescribed(SnipConfig(rule="snip", density=1.0), weights=[[[1.0, 9.0], [2.0, 3.0]]], usable=usable)


def test_a_run_that_tells_of_no_step_is_an_error() -> None:
    """Else the network would stay complete, and nobody would notice."""
    trial = Prescribed(HALF, Run(1, 1))
    trial.backward(gradients_of(0))
    trial.optimiser.step()
    with pytest.raises(RuntimeError, match="before the first step, which it was not told of"):
        trial.wiring.after_epoch(0)


def test_the_first_step_with_finite_gradients_chooses() -> None:
    """Infinite gradients choose nothing and are left for a GradScaler to see; the next ones choose as at step 0."""
    trial, late = Prescribed(HALF, Run(1, 3)), Prescribed(HALF, Run(1, 3))
    trial.step(0, gradients_of(0))
    for step, broken in ((0, torch.inf), (1, torch.nan)):
        gradients = [gradient.clone() for gradient in gradients_of(step)]
        gradients[1].view(-1)[3] = broken
        late.backward(gradients)
        late.wiring.before_step(step)
        assert not late.attached[1].gradient.isfinite().all()  # type: ignore[union-attr]
        with pytest.warns(UserWarning, match="keeps all edges of 0.weight until a step has finite gradients"):
            late.wiring.after_epoch(step)
    late.step(2, gradients_of(0))
    for one, other in zip(trial.wiring.edges().values(), late.wiring.edges().values(), strict=True):
        assert torch.equal(one, other)
