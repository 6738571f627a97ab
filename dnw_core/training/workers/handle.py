"""A worker process as the trial's process holds it."""

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

from dnw_core.config import Execution, Recipe
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.training.session import TrialIdentity

MODULE = "dnw_core.training.workers.process"


class WorkerHandle:
    """Starts a fresh interpreter for one worker, in a session of its own, and gives it its task.

    Not ``multiprocessing``: its processes load the main module once more, which under Ray is Ray's, and those that die
    with their parent may start none themselves, where a worker starts loaders.
    """

    def __init__(self, task: WorkerTask) -> None:
        self.rank = task.rank
        self.heard_last = False
        pipe, theirs = multiprocessing.Pipe()
        self.pipe: Connection[object, Said] = pipe
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - an entry may be relative
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.say(task)

    def say(self, word: object) -> None:
        """Send something; a worker that is gone is noticed elsewhere."""
        with contextlib.suppress(OSError):
            self.pipe.send(word)

    def stop(self) -> None:
        """Ask it to stop."""
        self.say(STOP)

    def heard(self) -> Iterator[Said]:
        """Yield what it has said since the last call."""
        with contextlib.suppress(EOFError, OSError):
            while not self.heard_last and self.pipe.poll():
                said = self.pipe.recv()
                self.heard_last = said.final
                yield said

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def end_in_words(self) -> str:
        """Say how the process ended."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"worker {self.rank} was killed by {signal.Signals(-code).name}"
        return f"worker {self.rank} ended without a result (exit status {code})"

    def end(self) -> None:
        """End the process, if it still runs, and everything that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()


STOP = "stop"
"""The one word that a worker hears after its task."""


@dataclass(frozen=True)
class WorkerTask:
    """What a worker process is to do: the arguments of ``run_worker``, and where it meets the others.

    Attributes:
        meeting: a file that does not exist yet, the same for all workers of one start.
    """

    rank: int
    meeting: Path
    recipe: Recipe
    seed: int
    execution: Execution
    folder: Path
    identity: TrialIdentity
    parent: Path | None
    resumed: int


@dataclass(frozen=True)
class Said:
    """What a worker says.

    Attributes:
        kind: ``epoch`` ended; or, once and last: ``done``, ``stopped`` on request, ``failed`` with an error of its own,
            or ``lost`` sight of another worker, whose own end will tell more.
        content: the epoch, the first worker's record, the error, or a sentence.
    """

    kind: Literal["epoch", "done", "stopped", "failed", "lost"]
    content: EpochMetrics | TrialRecord | BaseException | str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.kind != "epoch"
