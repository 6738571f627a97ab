"""Stopping cleanly: the first Ctrl-C asks every trial to write a checkpoint and stop; the second ends at once.

Ray starts its processes with SIGINT blocked, and a trial may run on another machine, so the request is a file in
the results folder, which every trial can see.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

_POLL_SECONDS = 0.3


class StopRequest:
    """The driver's side: the file, and the time of the request.

    Args:
        folder: this run's own folder below the results folder; it is created here.
        on_request: called once, at the first request.
    """

    def __init__(self, folder: Path, on_request: Callable[[], None] | None = None) -> None:
        self.folder = folder
        self.file = folder / "stop"
        self._on_request = on_request
        self._since: float | None = None
        folder.mkdir(parents=True)

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """Seconds since the request; 0 before it."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def request(self) -> None:
        """Ask every trial to stop."""
        if self._since is not None:
            return
        self._since = time.monotonic()
        with contextlib.suppress(OSError):  # a full disk; the trials are killed after the grace period
            self.file.touch()
        if self._on_request is not None:
            self._on_request()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a request for the block (main thread only; no effect elsewhere)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def handle(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.request()

        for number in before:
            signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def stop_request(results_dir: Path, on_request: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Make a request for one run below ``results_dir/.run`` and remove it at the end.

    One driver works on a results folder at a time, so anything else in there is left over from a killed run.
    """
    base = results_dir / ".run"
    shutil.rmtree(base, ignore_errors=True)
    try:
        yield StopRequest(base / uuid.uuid4().hex[:12], on_request)
    finally:
        shutil.rmtree(base, ignore_errors=True)


class StopWatch:
    """The trial's side: checks for the file, at most a few times a second, however often it is called."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._next = 0.0
        self._requested = False

    def __reduce__(self) -> tuple[type[StopWatch], tuple[Path]]:
        """Pickle without the times of this machine."""
        return StopWatch, (self._file,)

    def __call__(self) -> bool:
        """Whether the trial should stop."""
        now = time.monotonic()
        if not self._requested and now >= self._next:
            self._next = now + _POLL_SECONDS
            with contextlib.suppress(OSError):  # an unreachable shared folder is not a request
                self._requested = self._file.exists()
        return self._requested


MAX_DEATHS = 3
"""Restarts of a trial after its process died. An exception of the trial itself is recorded, not retried; a lost
machine, a pre-emption or an internal failure of Ray does not count (``schedule/failures.py``)."""

GRACE_SECONDS = 10.0
"""How long a trial may take to write a checkpoint after a request to stop."""

REMOTE_GRACE_SECONDS = 60.0
"""The same where the request arrives late and the checkpoint is uploaded (a bucket, ``--store head``)."""
