"""Workers that are lost are started again from the trial's last checkpoint, unless losses bring no new checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dnw_core.errors import TrialFailedError, TrialStopped, WorkersLostError
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask
from dnw_core.training.checkpoints.resume import stored_values
from dnw_core.training.checkpoints.trial_log import TrialLog

MAX_LOSSES = 3  # without a new checkpoint


def train_with_restarts(task: TrialTask, hooks: Hooks, train: Callable[[Hooks, int], TrialRecord]) -> TrialRecord:
    """Train on workers until they finish.

    Args:
        task: the trial; ``execution.workers`` says how many there are.
        hooks: told of every epoch once, although one may be trained again after a loss.
        train: starts the workers, and returns the trial's record; gets hooks, and how often the trial has gone on
            already. Raises WorkersLostError if the trial can go on from its last checkpoint.

    Raises:
        TrialFailedError: workers were lost again and again without a new checkpoint.
        TrialStopped: ``hooks.should_stop`` returned True after a loss.
        BaseException: anything else that ``train`` raises.
    """
    hooks = replace(hooks, on_epoch=_once_each(hooks.on_epoch))
    losses, begun = 0, stored_values(task)
    resumed = begun.resumed + 1 if begun else 0
    while True:
        before = _checkpoint_mark(task.folder)
        try:
            return train(hooks, resumed)
        except WorkersLostError as error:
            lost = str(error)
        if hooks.should_stop():
            raise TrialStopped
        losses = losses + 1 if _checkpoint_mark(task.folder) == before else 1
        if losses > MAX_LOSSES:
            raise TrialFailedError(f"{lost}, the {losses}th time without a new checkpoint")
        begun = stored_values(task)
        epoch, step, resumed = (
            (begun.epoch, begun.step, max(resumed, begun.resumed) + 1) if begun else (0, 0, resumed + 1)
        )
        with TrialLog(task.folder / LOG_FILE) as log:
            log.write(f"{lost}; all {task.execution.workers} workers start again from epoch {epoch}, step {step}")


def _once_each(on_epoch: Callable[[EpochMetrics], object]) -> Callable[[EpochMetrics], None]:
    """Return what passes an epoch on, but not one that is trained once more after a loss."""
    reported = -1

    def report(line: EpochMetrics) -> None:
        nonlocal reported
        if line.epoch > reported:
            reported = line.epoch
            on_epoch(line)

    return report


def _checkpoint_mark(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes with every new checkpoint, whatever the clock does: each one is a new file."""
    try:
        found = (folder / CHECKPOINT_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
