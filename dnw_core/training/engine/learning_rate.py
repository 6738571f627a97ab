"""Learning-rate schedules with the published semantics (facts 3, Q12, Q13), as a plain function of position.

Nothing is stepped, so nothing must be restored: the rate at (epoch, step) is the same whether or not the trial was
interrupted.
"""

from __future__ import annotations

import math

from dnw_core.config import CosineConfig, EpochCosineConfig, LinearConfig, Recipe


def learning_rate(recipe: Recipe, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Return the rate of step ``step`` (from 0) in epoch ``epoch`` (from 0).

    Multi-step: a milestone epoch is the first to run at the lower rate. Cosine: the t-th of T steps, counted from 1,
    runs at half a cosine's value at t/T, so that the first is just below the base rate and the last is exactly 0.
    Linear: likewise, at 1 - t/T. Epoch-cosine: constant in each epoch; the e-th of those E after the warm-up, counted
    from 0, runs at half a cosine's value at e/E. Warm-up: an epoch e of its n runs at (e + 1)/n of the rate.
    """
    base = recipe.optimiser.learning_rate
    schedule = recipe.schedule
    total = recipe.epochs * steps_per_epoch
    done = epoch * steps_per_epoch + step + 1
    if isinstance(schedule, CosineConfig):
        return 0.5 * base * (1.0 + math.cos(math.pi * done / total))
    if isinstance(schedule, LinearConfig):
        return base * (total - done) / total
    warmup = schedule.warmup_epochs
    rise = (epoch + 1) / warmup if epoch < warmup else 1.0
    if isinstance(schedule, EpochCosineConfig):
        since, left = max(0, epoch - warmup), max(1, recipe.epochs - warmup)
        return base * rise * 0.5 * (1.0 + math.cos(math.pi * since / left))
    passed = sum(milestone <= epoch for milestone in schedule.milestones)
    return base * rise * float(schedule.factor**passed)
