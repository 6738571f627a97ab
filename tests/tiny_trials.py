"""Small trials on the digits for the tests of training: seconds, not minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnw_core.config import fingerprint
from dnw_core.execution import Execution
from dnw_core.recipe import Recipe
from dnw_core.record import EpochMetrics, TrialRecord

SMALL_NETWORK = {"nodes": 44, "input_nodes": 8, "output_nodes": 6}


def small_recipe(kind: str = "tiny-static", rule: str = "top-edges", **changes: Any) -> Recipe:
    """A small network of this kind, two epochs on 192 digits."""
    network = {"kind": kind, **SMALL_NETWORK, **({"block_nodes": 12} if kind == "tiny-static" else {})}
    values: dict[str, Any] = {
        "network": network,
        "wiring": {"rule": rule, "density": 0.15},
        "data": {"dataset": "digits", "flip": False, "train_images": 192, "test_images": 64},
        "schedule": {"kind": "multi-step", "milestones": [1]},
        "epochs": 2,
        "batch_size": 64,
    }
    return Recipe.model_validate({**values, **changes})


def train(
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    checkpoint_minutes: float = 5.0,
    threads: int = 1,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrialRecord:
    """Run the trial in this process."""
    from dnw_core.training import TrialIdentity, run_trial

    execution = Execution(threads=threads, checkpoint_minutes=checkpoint_minutes)
    identity = TrialIdentity(table="tiny", row="row", scale="smoke", fingerprint=fingerprint(recipe))
    return run_trial(recipe, seed, execution, folder, identity, on_epoch=on_epoch, should_stop=should_stop)
