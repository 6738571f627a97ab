"""Small trials on the digits for the tests of training: seconds, not minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dnw_core.config.base import fingerprint
from dnw_core.config.execution import Execution
from dnw_core.config.recipe import Recipe
from dnw_core.errors import TrialStopped
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import NO_HOOKS, Hooks, TrialIdentity, TrialTask

SMALL_NETWORK = {"nodes": 44, "input_nodes": 8, "output_nodes": 6}
SMALL_NETWORKS: dict[str, dict[str, Any]] = {
    "tiny-static": {**SMALL_NETWORK, "block_nodes": 12},
    "tiny-discrete": SMALL_NETWORK,
    "tiny-continuous": {**SMALL_NETWORK, "ode_ends": "reference"},
    "graph-mobilenet": {},  # comes in one size: fewer images instead
    "mobilenet-v1": {"width_multiplier": 0.25},
    "resnet50": {"width_multiplier": 0.125, "classes": 10, "image_size": 32},
    "wide-resnet": {"depth": 10, "widen": 1},
}


def small_recipe(kind: str = "tiny-static", rule: str = "top-edges", **changes: Any) -> Recipe:
    """A small network of this kind, two epochs of three steps on digits."""
    batch_size = 16 if kind == "graph-mobilenet" else 64
    values: dict[str, Any] = {
        "network": {"kind": kind, **SMALL_NETWORKS[kind]},
        "wiring": {"rule": rule} if rule == "complete" else {"rule": rule, "density": 0.15},
        "data": {"dataset": "digits", "flip": False, "train_images": 3 * batch_size, "test_images": 64},
        "schedule": {"kind": "multi-step", "milestones": [1]},
        "epochs": 2,
        "batch_size": batch_size,
    }
    return Recipe.model_validate({**values, **changes})


def stop_after(calls: int) -> Callable[[], bool]:
    """Return a ``should_stop`` that says yes once it has been asked so many times."""
    left = [calls]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return stop


def task_of(
    recipe: Recipe, folder: Path, seed: int = 0, parent: Path | None = None, execution: Execution | None = None
) -> TrialTask:
    """Return the trial of this recipe and seed."""
    identity = TrialIdentity(table="tiny", row="row", scale="smoke", fingerprint=fingerprint(recipe))
    return TrialTask(recipe, seed, execution or Execution(), folder, identity, parent)


def interrupt(recipe: Recipe, folder: Path, calls: int, **options: Any) -> None:
    """Train until ``should_stop`` has said no so many times, once a step; leave the checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnw_core.training.session.SECONDS_BETWEEN_STOP_CHECKS", 0.0)
        with pytest.raises(TrialStopped):
            train(recipe, folder, should_stop=stop_after(calls), **options)


def train(
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    checkpoint_minutes: float = 5.0,
    threads: int = 1,
    workers: int = 1,
    stop_after_epochs: int | None = None,
    parent: Path | None = None,
    on_epoch: Callable[[EpochMetrics], object] = NO_HOOKS.on_epoch,
    should_stop: Callable[[], bool] = NO_HOOKS.should_stop,
) -> TrialRecord:
    """Run the trial in this process, or on workers that it starts."""
    from dnw_core.training import run_trial

    execution = Execution(
        threads=threads, checkpoint_minutes=checkpoint_minutes, workers=workers, stop_after_epochs=stop_after_epochs
    )
    return run_trial(task_of(recipe, folder, seed, parent, execution), Hooks(on_epoch, should_stop))
