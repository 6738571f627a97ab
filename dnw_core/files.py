"""Files that are either whole or not there, their hashes, and folders that survive a power cut. Free of torch.

A results folder may come from anywhere: what is read from one is opened so that a pipe or a device in a file's place
is refused instead of waited for (``open_plain``).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

LARGEST_TEXT = 64 << 20  # bytes of a JSON file that is read as a whole


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write to a temporary name beside ``path``, sync it, and rename it into place."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def refuse_link(path: Path) -> None:
    """Check that a path is not a symbolic link.

    Raises:
        OSError: if it is.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path.name} is a symbolic link, which may lead elsewhere; remove it", str(path))


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading without ever waiting for it.

    Raises:
        OSError: if it is not there, cannot be read, or is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, largest: int = LARGEST_TEXT) -> bytes:
    """Return a file's content.

    Raises:
        OSError: as ``open_plain``, or if it is larger than ``largest`` bytes.
    """
    with open_plain(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB", str(path))
    return content


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Return a UTF-8 text file's content.

    Raises:
        OSError: as ``read_bytes``.
        UnicodeDecodeError: if it is not UTF-8.
    """
    return read_bytes(path, largest).decode("utf-8")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or None if it is missing or not JSON."""
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return None


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
        OSError: as ``open_plain``.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems refuse to sync a folder
            raise
    finally:
        os.close(descriptor)


def move_odd_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Rename what has one of the names but is not a plain file (a link, a folder, a pipe), so that it is not used.

    Returns:
        A sentence for each.
    """
    moved = []
    for name in names:
        path = folder / name
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue
        if not stat.S_ISREG(mode):
            path.rename(path.with_name(f"{name}.odd-{uuid.uuid4().hex[:4]}"))
            moved.append(f"{name} was not a plain file; moved out of the way")
    return moved
