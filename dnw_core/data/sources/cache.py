"""Images decoded once, kept in one file that all trials of a machine map into memory.

Layout: a header of 4096 bytes (magic, then JSON with both shapes, padded), train labels, test labels (int64,
little-endian), train pixels, test pixels (uint8). The file is written under a temporary name and renamed, so
a reader sees a whole file or none; it is never changed in place, so maps of an older file stay good.
Whatever it says about itself, it counts only if its pixels and labels have the expected checksum.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dnw_core.data.sources.base import Identity, Split
from dnw_core.data.sources.locks import file_lock
from dnw_core.errors import UserError
from dnw_core.folders import default_cache_dir

if TYPE_CHECKING:
    from dnw_core.config import Execution

CACHE_VERSION = 1
_MAGIC = b"DNW images 1\n"
_HEADER_BYTES = 4096

Decode = Callable[[], tuple[Split, Split]]


def cached_splits(key: str, identity: Identity, decode: Decode, execution: Execution) -> tuple[Split, Split]:
    """Return the train and test split from the cache; ``decode`` them into it first if they are not there.

    Args:
        key: the cache file's name; must change with the source and with CACHE_VERSION.
        identity: what the splits must be; ``decode`` has to return exactly that.
        decode: called at most once, by one process at a time where the file system has locks.
        execution: only ``cache_dir`` is read.

    Raises:
        UserError: if the cache folder cannot be written. Errors of ``decode`` pass through.
    """
    folder = cache_folder(execution)
    path = folder / f"{key}.images"
    splits = _read(path, identity)
    if splits is not None:
        return splits
    with contextlib.ExitStack() as stack:
        with folder_errors(folder, "decoded images"):
            folder.mkdir(parents=True, exist_ok=True)
            locked = stack.enter_context(file_lock(folder / f"{key}.lock"))
        splits = _read(path, identity)  # another process may have been faster
        if splits is not None:
            return splits
        decoded = decode()
        with folder_errors(folder, "decoded images"):
            if locked:  # no other process is writing: leftovers of killed ones can go
                for left in folder.glob(f"{key}.*.tmp"):
                    left.unlink(missing_ok=True)
            _write(path, decoded)
        splits = _read(path, identity)
    if splits is None:
        raise UserError(f"cache folder {folder} gave back other bytes than were written to it; use another folder")
    return splits


def cache_folder(execution: Execution) -> Path:
    """Return the folder for files that this machine's trials share and that can be made again."""
    return execution.cache_dir if execution.cache_dir is not None else default_cache_dir()


@contextlib.contextmanager
def folder_errors(folder: Path, what: str) -> Iterator[None]:
    """Turn what the system says of a cache folder into a line for the user; ``what`` was to be written there."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {what} to cache folder {folder}: {error.strerror or error}; "
            "give one with room that you may write to with --cache-dir (or XDG_CACHE_HOME)"
        ) from None


def _read(path: Path, identity: Identity) -> tuple[Split, Split] | None:
    """Return the splits as read-only maps, or None if the file is missing, truncated, altered or foreign."""
    import numpy as np

    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            shapes = _parse_header(header)
            if shapes is None:
                return None
            parts = [(8, (shape[0],)) for shape in shapes] + [(1, shape) for shape in shapes]
            sizes = [width * math.prod(shape) for width, shape in parts]
            if os.fstat(file.fileno()).st_size != _HEADER_BYTES + sum(sizes):
                return None
            whole = np.memmap(file, dtype=np.uint8, mode="r")
    except (OSError, ValueError):
        return None
    arrays = []
    start = _HEADER_BYTES
    for size, (_, shape) in zip(sizes, parts, strict=True):
        arrays.append(whole[start : start + size].reshape(shape) if len(shape) > 1 else whole[start : start + size])
        start += size
    train = Split(arrays[2], arrays[0].view("<i8"))
    test = Split(arrays[3], arrays[1].view("<i8"))
    if train.checksum() != identity.train_checksum or test.checksum() != identity.test_checksum:
        return None
    return train, test


def _parse_header(header: bytes) -> list[tuple[int, ...]] | None:
    if len(header) != _HEADER_BYTES or not header.startswith(_MAGIC):
        return None
    try:
        values = json.loads(header[len(_MAGIC) :])
        shapes = [tuple(int(size) for size in values[name]) for name in ("train", "test")]
    except (ValueError, TypeError, KeyError):
        return None
    return shapes if all(len(shape) == 4 and min(shape) > 0 for shape in shapes) else None


def _write(path: Path, splits: tuple[Split, Split]) -> None:
    train, test = splits
    shapes = json.dumps({"train": train.images.shape, "test": test.images.shape})
    descriptor, name = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write((_MAGIC + shapes.encode()).ljust(_HEADER_BYTES))
            for labels in (train.labels, test.labels):
                file.write(labels.astype("<i8", copy=False).data.cast("B"))
            for images in (train.images, test.images):
                file.write(images.data.cast("B"))
        temporary.chmod(0o644)  # mkstemp makes it private; colleagues on the machine may share the folder
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
