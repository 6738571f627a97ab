"""Learning-rate schedules have the published semantics (facts 3, Q13)."""

from __future__ import annotations

import math

import pytest
from tiny_trials import small_recipe

from dnw_core.training.schedule import learning_rate


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


def test_compressed_schedules_keep_their_proportions() -> None:
    """160 epochs with drops at 80 and 120 become 4 with drops at 2 and 3."""
    recipe = small_recipe(schedule={"kind": "multi-step", "milestones": [80, 120]}, epochs=160).with_epochs(4)
    rates = [learning_rate(recipe, epoch, 0, 98) for epoch in range(4)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001], rel=1e-12)
