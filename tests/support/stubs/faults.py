"""Trials that meet what befalls trials on a cluster; what befalls each is in its row's name.

``sigterm`` trains for real, and its process gets SIGTERM after the first epoch. ``meets-3-<name>`` goes on only when
three such trials are at work together; one whose name ends with ``full`` runs out of a GPU's memory at first.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from dnw_core.config.execution import Execution
from dnw_core.config.recipe import Recipe
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask
from pipelines.trial.run import TRAIN, load_function
from support.stubs import training as stub_training

GIVE_UP_SECONDS = 120.0


def run_trial(task: TrialTask, hooks: Hooks) -> TrialRecord:
    """Meet what the row's name says, then train or pretend to."""
    row, folder = task.identity.row, task.folder
    kind, *rest = row.split("-")
    if row.endswith("-full") and _first_time(folder / "full"):
        raise RuntimeError("CUDA error: out of memory")  # torch has an error of its own, and takes seconds to load
    if kind == "meets":
        _meet(folder.parents[2] / f"met-{rest[0]}", int(rest[0]), row)

    def tell(line: EpochMetrics) -> None:
        if kind == "sigterm" and _first_time(folder / "told"):
            from dnw_core.training.session import SECONDS_BETWEEN_STOP_CHECKS

            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1.2 * SECONDS_BETWEEN_STOP_CHECKS)  # so that the next step asks
        hooks.on_epoch(line)

    train = load_function(TRAIN) if kind == "sigterm" else stub_training.run_trial
    return train(task, replace(hooks, on_epoch=tell))


def look_at_gpu() -> tuple[str, int]:
    """Return what there is to be seen of a GPU."""
    return "A GPU", 16 * 2**30


def peak_bytes(recipe: Recipe, execution: Execution) -> int:
    """Measure 2 GiB; recipes of three epochs are too large to be measured."""
    if recipe.epochs == 3:
        raise RuntimeError("CUDA error: out of memory")
    return 2 * 2**30


def _first_time(mark: Path) -> bool:
    if mark.exists():
        return False
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return True


def _meet(place: Path, number: int, name: str) -> None:
    """Wait until so many are here at once."""
    place.mkdir(parents=True, exist_ok=True)
    (place / name).touch()
    until = time.monotonic() + GIVE_UP_SECONDS
    while len(list(place.iterdir())) < number:
        if time.monotonic() > until:
            raise RuntimeError(f"{name} met {sorted(path.name for path in place.iterdir())} only")
        time.sleep(0.02)
