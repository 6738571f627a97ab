"""Learning-rate schedules have the published semantics (facts 3, Q13)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from support.stubs.tiny_trials import small_recipe

from dnw_core.training.engine.learning_rate import learning_rate


def test_multi_step_drops_in_its_milestone_epochs() -> None:
    """Epochs 0-79 at 0.1, 80-119 at 0.01, 120-159 at 0.001."""
    recipe = small_recipe(schedule={"kind": "multi-step", "milestones": [80, 120]}, epochs=160)
    rates = [learning_rate(recipe, epoch, 0, 98) for epoch in (0, 79, 80, 119, 120, 159)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rel=1e-12)
    assert learning_rate(recipe, 80, 97, 98) == learning_rate(recipe, 80, 0, 98)


def test_cosine_is_stepped_before_each_step_and_ends_at_zero() -> None:
    """First iteration uses step 1 of T, the middle is half the base, the last has rate exactly 0."""
    recipe = small_recipe(schedule={"kind": "cosine"}, epochs=160)
    total = 160 * 391
    assert total == 62_560
    assert learning_rate(recipe, 0, 0, 391) == pytest.approx(0.05 * (1 + math.cos(math.pi / total)), rel=1e-15)
    assert learning_rate(recipe, 79, 390, 391) == pytest.approx(0.05, rel=1e-12)
    assert learning_rate(recipe, 159, 390, 391) == 0.0


def test_epoch_cosine_with_warm_up_is_resnet50s() -> None:
    """The rates that the released code gives: five epochs rise, the fifth and sixth are at the full rate (facts 3)."""
    recipe = small_recipe(
        schedule={"kind": "epoch-cosine", "warmup_epochs": 5}, optimiser={"learning_rate": 0.256}, epochs=100
    )
    rates = [learning_rate(recipe, epoch, 0, 5004) for epoch in range(100)]
    assert rates[:6] == pytest.approx([0.0512, 0.1024, 0.1536, 0.2048, 0.256, 0.256], rel=1e-12)
    assert rates[98:] == pytest.approx([2.8e-4, 7e-5], rel=5e-3)
    assert all(later < earlier for earlier, later in pairwise(rates[5:]))
    assert rates[52] + rates[53] == pytest.approx(0.256, rel=1e-12)  # symmetric about the middle of epochs 5 to 100
    assert learning_rate(recipe, 50, 5003, 5004) == rates[50]


def test_multi_step_warms_up_likewise() -> None:
    """Constant in each epoch: a fifth of the rate in the first of five, all of it in the fifth."""
    schedule = {"kind": "multi-step", "milestones": [30, 60, 80], "warmup_epochs": 5}
    recipe = small_recipe(schedule=schedule, epochs=100)
    rates = [learning_rate(recipe, epoch, 7, 98) for epoch in (0, 1, 3, 4, 5, 29, 30, 99)]
    assert rates == pytest.approx([0.02, 0.04, 0.08, 0.1, 0.1, 0.1, 0.01, 0.0001], rel=1e-12)


def test_a_warm_up_as_long_as_the_run_only_rises() -> None:
    """A scale of few epochs may leave nothing after it."""
    recipe = small_recipe(schedule={"kind": "epoch-cosine", "warmup_epochs": 2}, epochs=2)
    assert [learning_rate(recipe, epoch, 0, 3) for epoch in range(2)] == pytest.approx([0.05, 0.1], rel=1e-12)


def test_compressed_schedules_keep_their_proportions() -> None:
    """160 epochs with drops at 80 and 120 become 4 with drops at 2 and 3."""
    recipe = small_recipe(schedule={"kind": "multi-step", "milestones": [80, 120]}, epochs=160).with_epochs(4)
    rates = [learning_rate(recipe, epoch, 0, 98) for epoch in range(4)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001], rel=1e-12)
    recipe = small_recipe(schedule={"kind": "epoch-cosine", "warmup_epochs": 5}, epochs=100).with_epochs(20)
    rates = [learning_rate(recipe, epoch, 0, 98) for epoch in range(3)]
    assert rates == pytest.approx([0.1, 0.1, 0.1 * 0.5 * (1 + math.cos(math.pi / 19))], rel=1e-12)
