"""A trial on several worker processes of this machine: started, supervised, told to stop, and started again.

The trial's own process takes part in no training and touches no GPU. A sum over all workers never ends once one of
them is gone (with nccl; gloo raises), so a process that waits in none must notice, and end the others. Whether a worker
was killed or its machine gone, all are started again from the trial's last checkpoint, to the same bits on a CPU. What
a worker raises itself is the trial's failure and is not repeated.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import torch

from dnw_core.errors import TrialStopped, WorkersLostError
from dnw_core.record import LOG_FILE, EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask
from dnw_core.training import session
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.workers.handle import WorkerHandle, WorkerTask
from dnw_core.training.workers.restarts import train_with_restarts

POLL_SECONDS = 0.25
SECONDS_FOR_A_CAUSE = 20.0  # after one worker missed another, until that one's own end is known


def run_on_workers(task: TrialTask, hooks: Hooks) -> TrialRecord:
    """Train a trial on ``execution.workers`` processes; result and errors are those of ``run_trial``."""
    return train_with_restarts(task, hooks, lambda hooks, resumed: _run_once(task, hooks, resumed))


def _run_once(task: TrialTask, hooks: Hooks, resumed: int) -> TrialRecord:
    """Start all workers and wait for their end; none runs any more when this returns or raises."""
    handles: list[WorkerHandle] = []
    with tempfile.TemporaryDirectory(prefix="dnw-workers-") as folder:
        try:
            for rank in range(task.execution.workers):
                execution = task.execution.model_copy(update={"device": _device(task.execution.device, rank)})
                own = replace(task, execution=execution)
                handles.append(WorkerHandle(WorkerTask(own, rank, Path(folder) / "meeting", resumed)))
            with TrialLog(task.folder / LOG_FILE) as log:
                log.write(f"workers: processes {', '.join(str(handle.process.pid) for handle in handles)}")
            return _supervise(handles, hooks)
        finally:
            for handle in handles:
                handle.kill()


def _device(device: str, rank: int) -> str:
    """Worker r's device: the r-th GPU from the trial's first one on."""
    found = torch.device(device)
    return device if found.type == "cpu" else f"{found.type}:{(found.index or 0) + rank}"


def _supervise(handles: list[WorkerHandle], hooks: Hooks) -> TrialRecord:
    """Return the record that the main worker made.

    Raises:
        WorkersLostError: one ended without a result; named is the one that died, not those that missed it.
        TrialStopped: they stopped on request.
        BaseException: what a worker raised.
    """
    missed: str | None = None
    missed_at = asked_at = 0.0
    stopping = False
    while True:
        wait([handle.pipe for handle in handles if not handle.finished], timeout=POLL_SECONDS)
        for handle in handles:
            alive = handle.alive  # read first: all that a dead worker has sent can then be received
            for message in handle.messages():
                content = message.content
                if isinstance(content, EpochMetrics):
                    hooks.on_epoch(content)
                elif isinstance(content, TrialRecord):
                    return content
                elif isinstance(content, BaseException):
                    raise content
                elif message.kind == "stopped" and handle.rank == 0:
                    raise TrialStopped
                elif message.kind == "lost" and missed is None:
                    missed, missed_at = f"worker {handle.rank} lost the others: {content}", time.monotonic()
            if not alive and not handle.finished:
                raise WorkersLostError(handle.exit_reason())
        now = time.monotonic()
        if missed is not None and now - missed_at > SECONDS_FOR_A_CAUSE:
            raise WorkersLostError(missed)
        if not stopping and now - asked_at >= session.SECONDS_BETWEEN_STOP_CHECKS:
            asked_at, stopping = now, hooks.should_stop()
            if stopping:
                handles[0].stop()
