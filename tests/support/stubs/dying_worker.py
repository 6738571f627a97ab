"""Training whose second worker, on another machine, is killed once or fails alone, as the row's name says."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from dnw_core import training
from dnw_core.errors import TrialFailedError
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask

TRAIN = "support.stubs.dying_worker:run_trial"
run_trial = training.run_trial


def run_worker(task: TrialTask, group: training.WorkerGroup, hooks: Hooks, *, resumed: int) -> TrialRecord | None:
    """Train a worker's share; the second worker may fail, or die after the first epoch."""

    def die_once(line: EpochMetrics) -> None:
        mark = task.folder.with_name("died")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    row = task.identity.row
    if row.startswith("fails") and group.rank == 1:
        raise TrialFailedError("the loss is nan at epoch 0, step 3")
    if row.startswith("dies-once") and group.rank == 1:
        hooks = replace(hooks, on_epoch=die_once)
    return training.run_worker(task, group, hooks, resumed=resumed)
