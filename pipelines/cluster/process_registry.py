"""A file for each process that trains on this machine, so that ``leave_node`` knows which ones to ask to leave."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def trials_folder() -> Path:
    """Return the folder with a file for each process of this user that trains on this machine.

    Not below ``TMPDIR``: a job's trap or a container's hook need not have the worker's environment.
    """
    return Path("/tmp") / f"dnw-trials-{os.getuid()}"  # noqa: S108 - private, and checked before it is used


def trial_processes() -> list[int]:
    """Return the ids of this user's processes that train on this machine; SIGTERM asks each to leave."""
    folder = trials_folder()
    if not _is_private(folder):
        return []
    found = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):  # it ends this very moment
            if file.read_text("ascii") == _started(int(file.name)):
                found.append(int(file.name))
    return sorted(found)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Register this process for the block; where that is impossible, only Ray can ask it to leave."""
    file = trials_folder() / str(os.getpid())
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        if _is_private(file.parent):
            file.write_text(_started(os.getpid()), "ascii")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_private(file.parent):
                file.unlink()


def _is_private(folder: Path) -> bool:
    """Whether the folder is ours alone: anybody may make one of this name."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _started(process: int) -> str:
    """Return when a process started, in the kernel's count: ids are used again.

    Raises:
        OSError: if there is no such process (or no /proc: elsewhere than on Linux).
    """
    fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return fields[19]
