"""The tracker in a process of its own, so that it takes no time and no memory from the driver.

Writing a trial into MLflow and drawing its wiring takes more of a processor than all that the driver does for it
(docs/scaling.md). In a thread that work would hold up the scheduling, and MLflow, matplotlib and their data would be
in the driver's memory. The process ends with the driver, however the driver ends, also in the middle of its work:
another driver may have begun. If it dies by itself, the next sync starts another one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.tracking.addresses import resolve_uri, without_password
from pipelines.tracking.tracker import SyncOutcome, Tracker

_SPAWN = multiprocessing.get_context("spawn")


class TrackerProcess:
    """A ``Tracker`` at work in another process. Use as a context; that process is gone after it.

    Args:
        tracking_uri: where MLflow is; None is a SQLite file inside the results folder.
        results_dir: the results folder.

    Raises:
        UserError: if the address is of an unknown kind.
    """

    def __init__(self, tracking_uri: str | None, results_dir: Path) -> None:
        self.uri = resolve_uri(tracking_uri, results_dir)
        self._make_tracker = partial(Tracker, self.uri, results_dir)
        self._process = _SPAWN.Process()  # started by ``_start`` only
        self._pipe: Connection[Any, Any] | None = None
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return without_password(self.uri)

    def __enter__(self) -> TrackerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's id; None before it is started."""
        return self._process.pid

    def prepare(self) -> None:
        """Start the process, which loads MLflow. Never raises: ``sync`` reports what is wrong."""
        with self._lock, contextlib.suppress(OSError):
            self._start()

    def sync(self, rows: Sequence[Mapping[str, Any]]) -> SyncOutcome:
        """Bring the rows' runs up to date with the store, as ``Tracker.sync``. Never raises."""
        with self._lock:
            try:
                pipe = self._pipe if self._pipe is not None and self._process.is_alive() else self._start()
                pipe.send(list(rows))
                outcome: SyncOutcome = pipe.recv()
            except (OSError, EOFError) as error:
                self._end()
                return SyncOutcome(error=f"its process has ended ({error or type(error).__name__})")
            return outcome

    def close(self) -> None:
        """End the process, also in the middle of its work: a later sync completes it."""
        if self._process.pid is not None:
            self._process.kill()
        with self._lock:  # a sync that waits for an answer returns first
            self._end()

    def _start(self) -> Connection[Any, Any]:
        self._end()
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self._make_tracker), daemon=True)
        resource_tracker.ensure_running()  # ahead of the next line, which starting it would undo
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is the driver's
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        return self._pipe

    def _end(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        if self._process.pid is not None:  # it could be started
            self._process.kill()
            self._process.join()
        pipe.close()


def _serve(pipe: Connection[Any, Any], make_tracker: Callable[[], Tracker]) -> None:
    """Sync whatever rows come, until the driver is gone."""
    os.setsid()  # a terminal that closes does not end it, the driver does
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is not the command's output
    threading.Thread(target=_end_with_driver, daemon=True).start()
    tracker = make_tracker()
    tracker.prepare()
    with contextlib.suppress(OSError, EOFError):
        while True:
            pipe.send(tracker.sync(pipe.recv()))


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(0)
