"""A worker process as the trial's process holds it, and what the two send each other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import TrialTask

MODULE = "dnw_core.training.workers.process"
STOP = "stop"
"""The one message that a worker gets after its task."""


@dataclass(frozen=True)
class WorkerTask:
    """What a worker process is to do.

    Attributes:
        task: the trial, on the worker's own device.
        rank: the worker, from 0.
        meeting: a file that does not exist yet, the same for all workers of one start.
        resumed: times that the trial has gone on already.
    """

    task: TrialTask
    rank: int
    meeting: Path
    resumed: int


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker sends.

    Attributes:
        kind: ``epoch`` ended; or, once and last: ``done``, ``stopped`` on request, ``failed`` with an error of its own,
            or ``lost`` contact with another worker, whose own end will tell more.
        content: the epoch, the main worker's record, the error, or a sentence.
    """

    kind: Literal["epoch", "done", "stopped", "failed", "lost"]
    content: EpochMetrics | TrialRecord | BaseException | str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.kind != "epoch"


class WorkerHandle:
    """Starts a fresh interpreter for one worker, in a session of its own, and gives it its task.

    Not ``multiprocessing``: its processes load the main module once more, which under Ray is Ray's, and those that die
    with their parent may start none themselves, where a worker starts loaders.
    """

    def __init__(self, task: WorkerTask) -> None:
        self.rank = task.rank
        self.finished = False  # whether its final message was received
        pipe, theirs = multiprocessing.Pipe()
        self.pipe: Connection[object, WorkerMessage] = pipe
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - an entry may be relative
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._send(task)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # a worker that is gone is noticed elsewhere
            self.pipe.send(message)

    def stop(self) -> None:
        """Ask it to stop."""
        self._send(STOP)

    def messages(self) -> Iterator[WorkerMessage]:
        """Yield what it has sent since the last call."""
        with contextlib.suppress(EOFError, OSError):
            while not self.finished and self.pipe.poll():
                message = self.pipe.recv()
                self.finished = message.final
                yield message

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def exit_reason(self) -> str:
        """Say how the process ended."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"worker {self.rank} was killed by {signal.Signals(-code).name}"
        return f"worker {self.rank} ended without a result (exit status {code})"

    def kill(self) -> None:
        """End the process, if it still runs, and everything that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
