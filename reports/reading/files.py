"""Files that are either whole or not there: written under a temporary name, then renamed. And read without waiting.

The folder may come from anywhere. Nothing is written through a link that lies in it, and a pipe or a device in a
file's place is refused instead of waited for.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from io import BufferedReader
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write the file in one step; a reader sees the old content or the new, never half of it.

    A link in the file's place is replaced, not followed.

    Raises:
        OSError: if the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:  # a new file, whatever may lie there
            file.write(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file in one step."""
    write_bytes(path, content.encode("utf-8"))


def refuse_link(path: Path) -> None:
    """Check that a folder that is written into is not a link to another one.

    Raises:
        OSError: if it is.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, f"{path.name} is a symbolic link, which may lead elsewhere; remove it", str(path))


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading without ever waiting for it.

    Raises:
        OSError: if it is not there, cannot be read, or is a link, a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, largest: int) -> bytes:
    """Return a file's content.

    Raises:
        OSError: as ``open_plain``, or if it is larger than ``largest`` bytes.
    """
    with open_plain(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest >> 20} MiB", str(path))
    return content


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
        OSError: as ``open_plain``.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
