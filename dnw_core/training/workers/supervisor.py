"""A trial on several worker processes of this machine: started, heard, told to stop, and started again.

The trial's own process takes part in no training and touches no GPU. A sum over all workers never ends once one of
them is gone (with nccl; gloo raises), so somebody who waits in none must notice, and end the others. Whether a worker
was killed or its machine gone, all are started again from the trial's last checkpoint, to the same bits on a CPU. What
a worker raises itself is the trial's failure and is not repeated.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

import torch

from dnw_core.config import Execution, Recipe
from dnw_core.errors import TrialFailedError, TrialStopped, WorkersLostError
from dnw_core.record import LOG_FILE, EpochMetrics, TrialRecord
from dnw_core.training import session
from dnw_core.training.checkpoints.checkpoint import CheckpointKey, load_checkpoint
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.session import TrialIdentity
from dnw_core.training.workers.handle import WorkerHandle, WorkerTask

MOST_FRUITLESS_RESTARTS = 3
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_FOR_A_CAUSE = 20.0  # after one worker missed another, until that one's own end is known


@dataclass(frozen=True)
class _Progress:
    """How far a trial is: what another start would not have to do again, or what has been reported."""

    epoch: int = 0
    step: int = 0
    resumed: int = 0  # times that a start from here goes on

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.step


def run_on_workers(
    recipe: Recipe,
    seed: int,
    execution: Execution,
    folder: Path,
    identity: TrialIdentity,
    *,
    parent: Path | None,
    on_epoch: Callable[[EpochMetrics], None],
    should_stop: Callable[[], bool],
) -> TrialRecord:
    """Train a trial on ``execution.workers`` processes; arguments, result and errors as ``run_trial``'s."""
    key = CheckpointKey(identity.fingerprint, seed)
    progress = _stored_progress(folder, key)
    furthest, resumed, fruitless, reported = progress.position, progress.resumed, 0, -1

    def report(line: EpochMetrics) -> None:
        nonlocal furthest, fruitless, reported
        if line.epoch <= reported:  # trained once more after a restart
            return
        reported = line.epoch
        if (line.epoch + 1, 0) > furthest:
            furthest, fruitless = (line.epoch + 1, 0), 0
        on_epoch(line)

    task = WorkerTask(0, Path(), recipe, seed, execution, folder, identity, parent, resumed)
    while True:
        try:
            return _run_once(task, report, should_stop)
        except WorkersLostError as error:
            lost = str(error)
        if should_stop():
            raise TrialStopped
        progress = _stored_progress(folder, key)
        if progress.position > furthest:
            furthest, fruitless = progress.position, 0
        if fruitless == MOST_FRUITLESS_RESTARTS:
            raise TrialFailedError(
                f"{lost}; {fruitless} restarts of the {execution.workers} workers brought no progress"
            )
        fruitless += 1
        task = replace(task, resumed=max(task.resumed + 1, progress.resumed))
        with TrialLog(folder / LOG_FILE) as log:
            log.write(
                f"{lost}; all {execution.workers} workers start again from epoch {progress.epoch}, step {progress.step}"
            )


def _stored_progress(folder: Path, key: CheckpointKey) -> _Progress:
    saved, _ = load_checkpoint(folder, key)
    return _Progress(saved["epoch"], saved["step"], saved["resumed"] + 1) if saved else _Progress()


def _run_once(task: WorkerTask, report: Callable[[EpochMetrics], None], should_stop: Callable[[], bool]) -> TrialRecord:
    """Start all workers and see them to their end; none runs any more when this returns or raises."""
    handles: list[WorkerHandle] = []
    with tempfile.TemporaryDirectory(prefix="dnw-workers-") as meeting:
        try:
            for rank in range(task.execution.workers):
                execution = task.execution.model_copy(update={"device": _device(task.execution.device, rank)})
                handles.append(
                    WorkerHandle(replace(task, rank=rank, execution=execution, meeting=Path(meeting) / "meeting"))
                )
            with TrialLog(task.folder / LOG_FILE) as log:
                log.write(f"workers: processes {', '.join(str(handle.process.pid) for handle in handles)}")
            return _supervise(handles, report, should_stop)
        finally:
            for handle in handles:
                handle.end()


def _device(device: str, rank: int) -> str:
    """Worker r's device: the r-th GPU from the trial's first one on."""
    found = torch.device(device)
    return device if found.type == "cpu" else f"{found.type}:{(found.index or 0) + rank}"


def _supervise(
    handles: list[WorkerHandle], report: Callable[[EpochMetrics], None], should_stop: Callable[[], bool]
) -> TrialRecord:
    """Return the record that the first worker made.

    Raises:
        WorkersLostError: one ended without a word; named is the one that died, not those that missed it.
        TrialStopped: they stopped on request.
        BaseException: what a worker raised.
    """
    missed: str | None = None
    missed_at = asked_at = 0.0
    told = False
    while True:
        open_pipes = [handle.pipe for handle in handles if not handle.heard_last]
        wait(open_pipes, timeout=SECONDS_BETWEEN_LOOKS)
        for handle in handles:
            alive = handle.alive  # looked at first: what a dead worker has said can then all be heard
            for said in handle.heard():
                content = said.content
                if isinstance(content, EpochMetrics):
                    report(content)
                elif isinstance(content, TrialRecord):
                    return content
                elif isinstance(content, BaseException):
                    raise content
                elif said.kind == "stopped" and handle.rank == 0:
                    raise TrialStopped
                elif said.kind == "lost" and missed is None:
                    missed, missed_at = f"worker {handle.rank} lost the others: {content}", time.monotonic()
            if not alive and not handle.heard_last:
                raise WorkersLostError(handle.end_in_words())
        now = time.monotonic()
        if missed is not None and now - missed_at > SECONDS_FOR_A_CAUSE:
            raise WorkersLostError(missed)
        if not told and now - asked_at >= session.SECONDS_BETWEEN_STOP_CHECKS:
            asked_at, told = now, should_stop()
            if told:
                handles[0].stop()
