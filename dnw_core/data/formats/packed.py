"""The images of many shards in one local file, still encoded, with an index: made once for all trials of a machine.

Layout: a header of 4096 bytes (magic, then JSON with the counts and the index's place and checksum, padded), the image
files one after the other, the index: offsets, sizes and labels of the training images, then of the test images (int64,
little-endian). The index is in canonical order whatever the order of the files. The file is written under a temporary
name and renamed, so a reader sees a whole file or none; what comes out of it is checked again by decoding it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dnw_core.data.formats.encoded import EncodedSplit, PackedFiles

PACKED_VERSION = 1
_MAGIC = b"DNW packed 1\n"
_HEADER_BYTES = 4096
# imagenet-1k on the Hugging Face hub appends the class to the names of ILSVRC, which would change their order
_CLASS_SUFFIX = re.compile(r"_n\d{8}(?=\.\w+$)")


class SplitWriter:
    """Appends the images of one split to a packed file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offsets = array("q")
        self._sizes = array("q")
        self._labels = array("q")
        self._names: list[str] = []

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, content: bytes, label: int, name: str | None) -> None:
        """Append an image file; ``name`` is its path below the split, if that is known."""
        self._offsets.append(self._file.tell())
        self._sizes.append(len(content))
        self._labels.append(label)
        if name is not None:
            self._names.append(name)
        self._file.write(content)

    def index(self, *, sort: bool) -> bytes:
        """Return the split's part of the index; ``sort`` brings it into canonical order where all names are known."""
        import numpy as np

        columns = np.array([self._offsets, self._sizes, self._labels], dtype="<i8").reshape(3, -1)
        if sort and len(self._names) == len(self):
            columns = columns[
                :, sorted(range(len(self)), key=lambda row: (self._labels[row], *_parts(self._names[row])))
            ]
        return columns.tobytes()


def write_packed(path: Path, fill: Callable[[SplitWriter, SplitWriter], None], *, sort: bool) -> None:
    """Write a packed file: ``fill`` adds all training images, then all test images.

    Args:
        path: the file.
        fill: gets the writers of both splits.
        sort: whether the images may come in another than the canonical order.

    Raises:
        OSError: if it cannot be written. Errors of ``fill`` pass through, and leave nothing behind.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(_HEADER_BYTES))
            train, test = SplitWriter(file), SplitWriter(file)
            fill(train, test)
            start = file.tell()
            index = train.index(sort=sort) + test.index(sort=sort)
            file.write(index)
            header = {
                "train": len(train),
                "test": len(test),
                "index": start,
                "sha256": hashlib.sha256(index).hexdigest(),
            }
            file.seek(0)
            file.write((_MAGIC + json.dumps(header).encode()).ljust(_HEADER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; colleagues on the machine may share the folder
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_packed(path: Path) -> tuple[EncodedSplit, EncodedSplit] | None:
    """Return the train and test split of a packed file, or None if it is missing, truncated, altered or foreign."""
    import numpy as np

    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            if not header.startswith(_MAGIC):
                return None
            values = json.loads(header[len(_MAGIC) :])
            counts, start = (int(values["train"]), int(values["test"])), int(values["index"])
            file.seek(start)
            index = file.read()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if len(index) != 3 * 8 * sum(counts) or hashlib.sha256(index).hexdigest() != values["sha256"]:
        return None
    columns = np.frombuffer(index, dtype="<i8")
    splits = []
    for part in (columns[: 3 * counts[0]], columns[3 * counts[0] :]):
        offsets, sizes, labels = part.reshape(3, -1)
        splits.append(EncodedSplit(PackedFiles(path, offsets, sizes), labels))
    return splits[0], splits[1]


def _parts(name: str) -> tuple[str, str]:
    """Return folder and file, by which ``folder_listing`` orders the images of a class."""
    folder, _, file = name.rpartition("/")
    return folder, _CLASS_SUFFIX.sub("", file)
