"""Training whose second worker, on another machine, is killed once or fails alone, as the row's name says."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from dnw_core import training
from dnw_core.errors import TrialFailedError
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.training import WorkerGroup

TRAIN = "support.stubs.dying_worker:run_trial"
run_trial = training.run_trial


def run_worker(
    recipe: Any, seed: int, execution: Any, folder: Path, identity: Any, group: WorkerGroup, **more: Any
) -> TrialRecord | None:
    """Train a worker's share; the second worker may fail, or die after the first epoch."""

    def die_once(line: EpochMetrics) -> None:
        mark = folder.with_name("died")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    if identity.row.startswith("fails") and group.rank == 1:
        raise TrialFailedError("the loss is nan at epoch 0, step 3")
    if identity.row.startswith("dies-once") and group.rank == 1:
        more["on_epoch"] = die_once
    return training.run_worker(recipe, seed, execution, folder, identity, group, **more)
