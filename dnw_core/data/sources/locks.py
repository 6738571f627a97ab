"""One process at a time: an advisory lock on a file, let go by the system when its owner dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Wait for the lock on ``path`` (made if missing) and hold it; yields whether it is really held.

    It is False where the system or the file system has no locks. Callers stay correct without it: the lock
    only saves doing the same work twice.

    Raises:
        OSError: if the lock file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _acquire(descriptor)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):  # not a POSIX system; a network file system without locks
        return False
    return True
