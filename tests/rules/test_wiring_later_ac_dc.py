"""AC/DC: the phases, the pruning over all weights together, and what rests in a sparse phase."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
import torch
from support.references.prescribed import SHAPES, Prescribed, assert_close, drawn, gradients_of, numbers, sgd, top

from dnw_core.config.later_rules import AcDcConfig
from dnw_core.wiring.rule import Run
from dnw_core.wiring.rules.ac_dc import sparse_epochs

HALF = AcDcConfig(rule="ac-dc", density=0.5)


def lengths(epochs: int, **settings: float) -> list[int]:
    """Epochs of each phase in turn, the first one dense."""
    sparse = sparse_epochs(AcDcConfig(rule="ac-dc", density=0.5, **settings), epochs)
    assert len(sparse) == epochs
    assert not sparse[0]
    return [len(list(phase)) for _, phase in groupby(sparse)]


def test_the_published_hundred_epochs() -> None:
    """Dense 0-9, six times sparse and dense for five, sparse 70-74, dense 75-84, sparse 85-99."""
    assert lengths(100) == [10] + [5] * 13 + [10, 15]
    sparse = sparse_epochs(HALF, 100)
    assert [epoch for epoch in range(100) if sparse[epoch] and not sparse[epoch - 1]] == [
        10,
        20,
        30,
        40,
        50,
        60,
        70,
        85,
    ]


@pytest.mark.parametrize(
    ("epochs", "phases"),
    [
        (1, [1]),  # pruned at its end
        (2, [1, 1]),
        (3, [2, 1]),
        (4, [1, 1, 1, 1]),
        (10, [1, 1, 1, 1, 1, 1, 2, 2]),
        (20, [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3]),
        (200, [20] + [10] * 13 + [20, 30]),
    ],
)
def test_phases_of_other_runs(epochs: int, phases: list[int]) -> None:
    """The shares hold at every length; no phase is shorter than an epoch."""
    assert lengths(epochs) == phases


def test_phases_of_other_settings() -> None:
    """One long dense phase and one sparse one; nothing before the first epoch."""
    assert lengths(10, warmup_share=0.5, last_sparse_share=0.5) == [5, 5]
    assert lengths(3, warmup_share=0.5, last_sparse_share=0.5) == [2, 1]
    assert lengths(10, warmup_share=0.0, phase_share=0.2, last_sparse_share=0.0) == [1, 2, 2, 2, 2, 1]
    assert lengths(10, warmup_share=1.0, last_sparse_share=0.0) == [10]


def test_pruning_is_over_all_weights_together() -> None:
    """Hand-computed: 6 of 12 slots, ties to the first weight; what is pruned is zero, and its momentum."""
    trial = Prescribed(
        HALF, Run(2, 1), weights=[[[1.0, -2.0], [3.0, 2.0]], [[2.0, 0.1, -2.0, 4.0], [0.2, 2.0, 1.0, -3.0]]]
    )
    for group in trial.optimiser.param_groups:
        group["lr"] = 0.0
    assert [here.rule.promised_edges for here in trial.attached] == [4, 8]
    trial.step(0, [torch.ones(2, 2), torch.ones(2, 4)])
    trial.wiring.after_epoch(0)
    # 4, 3, 3 and then three of the five that are 2: two in the first weight, the first in the second
    assert trial.attached[0].weight.tolist() == [[0.0, -2.0], [3.0, 2.0]]
    assert trial.attached[1].weight.tolist() == [[2.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, -3.0]]
    for here, own in zip(trial.attached, trial.wiring.edges().values(), strict=True):
        assert torch.equal(own, here.weight != 0)
        assert here.momentum is not None
        assert torch.equal(here.momentum != 0, own)
    assert [here.rule.promised_edges for here in trial.attached] == [3, 3]


def test_a_weight_may_end_a_phase_without_an_edge() -> None:
    """The global count is kept nevertheless, also of one epoch alone."""
    trial = Prescribed(HALF, Run(1, 1), weights=[[[0.1, 0.2]], [[3.0, 4.0, 5.0, 6.0]]])
    trial.step(0, [None, torch.zeros(1, 4)])
    trial.wiring.after_epoch(0)
    assert [int(own.sum()) for own in trial.wiring.edges().values()] == [0, 3]


def test_against_a_plain_run_in_float64() -> None:
    """Weights, momentum and edges of ten epochs: dense 0, then in turn, dense 6 and 7, sparse 8 and 9."""
    run = Run(10, 3)
    trial = Prescribed(HALF, run)
    weights = [numbers(drawn(shape, index)) for index, shape in enumerate(SHAPES)]
    momenta = [np.zeros(shape) for shape in SHAPES]
    masks = [np.ones(shape, dtype=bool) for shape in SHAPES]
    seen = set()
    for epoch in range(10):
        if epoch in (2, 4, 6):
            masks = [np.ones(shape, dtype=bool) for shape in SHAPES]
            momenta = [np.zeros(shape) for shape in SHAPES]
        for step in range(3 * epoch, 3 * epoch + 3):
            trial.step(step, gradients_of(step))
            for weight, momentum, gradient, mask in zip(weights, momenta, gradients_of(step), masks, strict=True):
                sgd(weight, momentum, numbers(gradient) * mask)
            for here, weight, momentum, mask in zip(trial.attached, weights, momenta, masks, strict=True):
                assert np.array_equal(here.edges().numpy(), mask)
                assert_close(here.weight, weight)
                assert here.momentum is not None
                assert_close(here.momentum, momentum)
                # to the bit: neither decay nor momentum has moved what was pruned
                assert not here.weight.detach().numpy()[~mask].any()
        trial.wiring.after_epoch(epoch)
        if epoch in (0, 2, 4, 7):
            chosen = top(np.concatenate([weight.ravel() for weight in weights]), 15 + 20)
            masks = [chosen[:30].reshape(SHAPES[0]), chosen[30:].reshape(SHAPES[1])]
            for values in (weights, momenta):
                for value, mask in zip(values, masks, strict=True):
                    value *= mask
            seen.add(tuple(chosen))
        found = trial.wiring.edges()
        assert all(np.array_equal(own.numpy(), mask) for own, mask in zip(found.values(), masks, strict=True))
    assert len(seen) == 4
    assert sum(int(mask.sum()) for mask in masks) == 35


def test_slots_that_are_not_read_are_no_edges() -> None:
    """Neither in a dense phase nor in a sparse one."""
    usable = torch.tensor([[True, False], [True, True]])
    trial = Prescribed(HALF, Run(4, 1), weights=[[[1.0, 9.0], [2.0, 3.0]]], usable=usable)
    counts = []
    for epoch in range(4):
        trial.step(epoch, [torch.zeros(2, 2)])
        assert not trial.attached[0].edges()[0, 1]
        counts.append(int(trial.attached[0].edges().sum()))
        trial.wiring.after_epoch(epoch)
        trial.wiring.edges()
    assert counts == [3, 2, 3, 2]


def test_without_begin_the_phases_are_unknown() -> None:
    """A clear sentence, not a guess, before a step and after an epoch."""
    trial = Prescribed(HALF)
    with pytest.raises(RuntimeError, match=r"call begin\(run\) first"):
        trial.step(0, gradients_of(0))
    with pytest.raises(RuntimeError, match=r"call begin\(run\) first"):
        trial.wiring.after_epoch(0)
