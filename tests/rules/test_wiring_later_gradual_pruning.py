"""Gradual magnitude pruning: the schedule, what is pruned and what comes back, and that k edges are left at last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.references.prescribed import SHAPES, Prescribed, assert_close, drawn, gradients_of, numbers, sgd, top

from dnw_core.config.later_rules import GradualPruningConfig
from dnw_core.wiring.rule import Run


def config(**settings: Any) -> GradualPruningConfig:
    """Settings with a tenth of the slots kept."""
    return GradualPruningConfig(rule="gradual-pruning", **{"density": 0.1, **settings})


# 100 slots, 10 kept: 10 + 90 (1 - p)^exponent, by hand
@pytest.mark.parametrize(
    ("steps", "settings", "counts"),
    [
        # selections at p = 1/3, 2/3, 1: 10 + 90 * 8/27 = 36.7, 10 + 90/27 = 13.3
        (10, {"prune_start": 0.2, "prune_end": 0.8, "updates": 3}, [100, 100, 100, 37, 37, 13, 13, 10, 10, 10]),
        (4, {"prune_start": 0.0, "prune_end": 1.0, "exponent": 1.0}, [78, 55, 32, 10]),  # 77.5 and 32.5 to the even
        (4, {"prune_start": 0.0, "prune_end": 1.0, "updates": 2, "exponent": 1.0}, [100, 55, 55, 10]),
        (4, {"prune_start": 0.5, "prune_end": 0.5}, [100, 10, 10, 10]),
        (3, {"prune_start": 0.0, "prune_end": 0.0}, [10, 10, 10]),
        (3, {"prune_start": 1.0, "prune_end": 1.0}, [100, 100, 10]),
        (1, {}, [10]),
        (1, {"prune_start": 1.0, "prune_end": 1.0}, [10]),
        (2, {}, [13, 10]),  # p = 0.45 / 0.65, so 10 + 90 * (4/13)^3 = 12.6
    ],
)
def test_counts_follow_the_schedule_exactly(steps: int, settings: dict[str, Any], counts: list[int]) -> None:
    """After each step the promised number is the formula's, and so many edges are there."""
    trial = Prescribed(config(**settings), Run(1, steps), shapes=[(10, 10)])
    assert trial.attached[0].rule.promised_edges == 100
    for step, count in enumerate(counts):
        trial.step(step, [drawn((10, 10), step)])
        assert trial.attached[0].rule.promised_edges == count
        assert int(trial.attached[0].edges().sum()) == count
        assert int((trial.effective()[0] != 0).sum()) == count


def test_selections_are_made_only_when_they_are_due() -> None:
    """Between two selections the edges stay, however the weights change."""
    trial = Prescribed(config(prune_start=0.0, prune_end=1.0, updates=2), Run(2, 4), shapes=[(10, 10)])
    masks = []
    for step in range(8):
        trial.step(step, [drawn((10, 10), step)])
        masks.append(trial.attached[0].edges().clone())
    changes = [step for step in range(1, 8) if not torch.equal(masks[step], masks[step - 1])]
    assert changes == [3, 7]
    assert bool(masks[0].all())


def test_against_a_plain_run_in_float64() -> None:
    """Weights, momentum and masks over a run: no gradient without an edge, decay everywhere, and some come back."""
    run, shape = Run(2, 15), SHAPES[0]
    trial = Prescribed(config(prune_start=0.1, prune_end=0.9, updates=8), run)
    weight, present = numbers(drawn(shape, 0)), np.ones(shape, dtype=bool)
    momentum, back = np.zeros(shape), 0
    for step in range(run.steps):
        gradients = gradients_of(step)
        trial.step(step, gradients)
        sgd(weight, momentum, numbers(gradients[0]) * present)
        # in whole thirtieths of the run: from 3 to 27
        done, before = (min(max(3, finished), 27) - 3 for finished in (step + 1, step))
        if done * 8 // 24 > before * 8 // 24:
            selected = top(weight, 3 + round(27 * (1 - done / 24) ** 3))
            back += int((selected & ~present).sum())
            present = selected
        assert np.array_equal(trial.attached[0].edges().numpy(), present)
        assert_close(trial.attached[0].weight, weight)
        held = trial.attached[0].momentum
        assert held is not None
        assert_close(held, momentum)
        assert_close(trial.effective()[0], weight * present)
    assert back > 0
    assert trial.attached[0].rule.promised_edges == 3


def test_a_run_shorter_than_announced_still_ends_with_k() -> None:
    """The end of the last epoch is the last chance."""
    trial = Prescribed(config(), Run(2, 50))
    for step in range(3):
        trial.step(step, gradients_of(step))
    trial.wiring.after_epoch(0)
    assert trial.attached[0].rule.promised_edges == 30
    trial.wiring.after_epoch(1)
    assert [here.rule.promised_edges for here in trial.attached] == [3, 4]
    trial.wiring.edges()


def test_erk_divides_the_edges_unevenly() -> None:
    """Shares in proportion to the sum of the dimensions: 11 and 14 of 25, of 7 edges, are 3.08 and 3.92."""
    trial = Prescribed(config(layers="erk"), Run(1, 2))
    for step in range(2):
        trial.step(step, gradients_of(step))
    assert [int(own.sum()) for own in trial.wiring.edges().values()] == [3, 4]
    trial = Prescribed(config(layers="erk"), Run(1, 1), shapes=[(2, 4), (8, 10)])
    trial.step(0, gradients_of(0, [(2, 4), (8, 10)]))
    # 9 edges: 9 * 6/24 = 2.25 and 6.75, where uniform ones would be 1 and 8
    assert [int(own.sum()) for own in trial.wiring.edges().values()] == [2, 7]


def test_slots_that_are_not_read_are_no_edges() -> None:
    """Neither at the start nor later, however large."""
    usable = torch.zeros(4, 5, dtype=torch.bool)
    usable[:, :3] = True
    trial = Prescribed(config(density=0.2), Run(1, 1), weights=[[[1.0, 2.0, 3.0, 9.0, 9.0]] * 4], usable=usable)
    assert torch.equal(trial.attached[0].edges(), usable)
    trial.step(0, [torch.zeros(4, 5)])
    assert trial.attached[0].edges().nonzero().tolist() == [[0, 2], [1, 2], [2, 2], [3, 2]]
    with pytest.raises(ValueError, match="16 edges are to be kept, but only 12 slots are usable"):
        Prescribed(config(density=0.8), weights=[[[1.0] * 5] * 4], usable=usable)
