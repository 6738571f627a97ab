"""One driver at a time on a results folder: ``flock`` on ``driver.lock``, which names its owner.

The kernel releases the lock when the driver ends, however it ends; a lock file left behind means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from dnw_core.files import read_json
from pipelines.store import LOCK_FILE

_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe would block
_ATTEMPTS = 5  # `--status` holds the lock for an instant to test it
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class LockOwner:
    """The driver that works on a results folder."""

    host: str
    pid: int
    started: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.started} ({self.command})"

    @classmethod
    def this_process(cls) -> LockOwner:
        """Return this process as an owner from now on."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), started, shlex.join(sys.argv))

    @classmethod
    def read(cls, values: dict[str, Any]) -> LockOwner:
        """Return the owner that was written as these values; what is missing is shown as ``?``."""
        pid = values.get("pid")
        host, started, command = (str(values.get(name, "?")) for name in ("host", "started", "command"))
        return cls(host, pid if isinstance(pid, int) else 0, started, command)


@contextlib.contextmanager
def driver_lock(results_dir: Path, *, lock_file: str = LOCK_FILE, option: str = "--results-dir") -> Iterator[None]:
    """Hold the results folder for the block.

    Args:
        results_dir: the folder, or another one on which only one command may work.
        lock_file: name of the lock file in it.
        option: the option that names the folder, for messages.

    Raises:
        UserError: if another driver holds it (named), or the file system has no locks.
    """
    path = results_dir / lock_file
    try:
        descriptor = os.open(path, _OPEN | os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror}); give another {option}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"{path} is not a plain file; remove it")
        if not _try_lock(descriptor, fcntl.LOCK_EX):
            owner = _read_owner(path)
            who = str(owner) if owner else "a driver that has not named itself yet"
            raise UserError(f"{results_dir} is in use by {who}; wait for it, stop it, or give another {option}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(asdict(LockOwner.this_process())) + "\n").encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_owner(results_dir: Path) -> LockOwner | None:
    """Return the driver that holds the results folder now, or None. Writes nothing."""
    path = results_dir / LOCK_FILE
    try:
        descriptor = os.open(path, _OPEN | os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _read_owner(path)
        return None
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(f"the folder's file system cannot lock files ({error.strerror}); use another") from None
            if attempt + 1 < _ATTEMPTS:
                time.sleep(_PAUSE_SECONDS)
        else:
            return True
    return False


def _read_owner(path: Path) -> LockOwner | None:
    values: Any = read_json(path)
    return LockOwner.read(values) if isinstance(values, dict) else None
