"""Private temporary folders that a killed process does not leave behind for ever.

The lock in each is held for as long as its owner lives; whoever makes the next one removes those whose owner is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"


@contextlib.contextmanager
def private_folder(prefix: str, base: Path | None = None) -> Iterator[Path]:
    """Make a folder that only this user may look into, and remove it after the block.

    Args:
        prefix: of its name; abandoned folders with the same one are removed too.
        base: where to make it; the system's folder for temporary files by default (TMPDIR).
    """
    base = Path(tempfile.gettempdir()) if base is None else base
    remove_abandoned(base, prefix)
    # under another name until it is locked: whoever looks for abandoned ones must not find it before
    new = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=base))
    descriptor = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    folder = new.rename(base / new.name.removeprefix("."))
    try:
        yield folder
    finally:
        remove(folder)
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove the folder; others may write their last lines while it goes."""
    for _ in range(10):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.2)


def remove_abandoned(base: Path, prefix: str) -> None:
    """Remove the folders whose owners are gone."""
    for folder in base.glob(f"{prefix}*"):
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # someone else's, or just being made
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(folder)
        except OSError:  # its owner lives
            continue
        finally:
            os.close(descriptor)
