"""One process at a time trains a trial.

A process whose driver, head or link is lost knows nothing of it for up to a minute and trains on, while the trial may
have been started elsewhere already. Two that write into one working folder would both append to its log, also after
the first to finish has recorded the log's hash. So the second waits until the first has ended, and goes on from what
that one left. The kernel releases the lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LOCK_FILE = "trial.lock"
WAIT_SECONDS = 150.0  # Ray ends what it has lost after a minute; then the folder is taken, come what may
_PAUSE_SECONDS = 0.5


@contextlib.contextmanager
def only_one(work: Path, should_stop: Callable[[], bool] | None = None, limit: float = WAIT_SECONDS) -> Iterator[bool]:
    """Have a trial's working folder to oneself for the block.

    Where the file system has no locks there is no waiting.

    Args:
        work: the folder; it may be committed, that is renamed, while this waits.
        should_stop: asked while it waits.
        limit: seconds to wait at most.

    Yields:
        False if it was told to stop before the folder was free.
    """
    try:
        descriptor = os.open(work / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError:  # a full disk, or just committed: what follows finds out
        yield True
        return
    try:
        yield _wait(descriptor, should_stop or (lambda: False), limit)
        _tidy(work)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, should_stop: Callable[[], bool], limit: float) -> bool:
    until = time.monotonic() + limit
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if should_stop():
                return False
            if time.monotonic() >= until:
                return True
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            return True
        else:
            return True


def _tidy(work: Path) -> None:
    """Remove a folder in which nothing but the lock has come to be: its trial was committed meanwhile."""
    with contextlib.suppress(OSError):
        if [path.name for path in work.iterdir()] == [LOCK_FILE]:
            (work / LOCK_FILE).unlink()
            work.rmdir()
