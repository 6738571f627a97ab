"""Images as they are on disk, still encoded: files in a folder, or pieces of a packed file (``packed``).

Both can be cut to some rows and then pickled, in a few bytes an image: that is all a loader process is told of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from dnw_core.errors import DataBrokenError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class EncodedFiles(Protocol):
    """Image files, by row."""

    def __len__(self) -> int:
        """Number of files."""

    def select(self, rows: Sequence[int]) -> EncodedFiles:
        """Return those of these rows only."""

    def read(self, row: int) -> bytes:
        """Return a file's bytes; raises DataBrokenError if they are no longer there."""

    def broken(self, row: int, reason: str) -> DataBrokenError:
        """Return the error for a file that does not decode: its name, and what to do."""


@dataclass(frozen=True)
class FolderFiles(EncodedFiles):
    """Files below a folder."""

    folder: Path
    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    @override
    def select(self, rows: Sequence[int]) -> FolderFiles:
        return FolderFiles(self.folder, [self.paths[row] for row in rows])

    @override
    def read(self, row: int) -> bytes:
        path = f"{self.folder}/{self.paths[row]}"  # a Path takes longer than the reading
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                return file.read()
        except OSError as error:
            raise DataBrokenError(f"{path} cannot be read: {error.strerror or error}") from None

    @override
    def broken(self, row: int, reason: str) -> DataBrokenError:
        return DataBrokenError(
            f"{self.folder / self.paths[row]} is unreadable: {reason}; it has changed since it was checked"
        )


@dataclass(frozen=True, eq=False)
class PackedFiles(EncodedFiles):
    """Files one after the other in a packed file.

    Read by position rather than through a map: a file that was cut short gives an error, not a killed process.

    Attributes:
        path: the packed file.
        offsets: where each file begins, int64 [N].
        sizes: bytes of each, int64 [N].
    """

    path: Path
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    @override
    def select(self, rows: Sequence[int]) -> PackedFiles:
        return PackedFiles(self.path, self.offsets[rows], self.sizes[rows])

    @override
    def read(self, row: int) -> bytes:
        size = int(self.sizes[row])
        try:
            with self.path.open("rb", buffering=0) as file:
                content = os.pread(file.fileno(), size, int(self.offsets[row]))
        except OSError as error:
            raise DataBrokenError(f"{self.path} cannot be read: {error.strerror or error}") from None
        if len(content) < size:
            raise self.broken(row, "its end is missing")
        return content

    @override
    def broken(self, row: int, reason: str) -> DataBrokenError:
        return DataBrokenError(
            f"{self.path} was altered after it was written (at byte {int(self.offsets[row])}: {reason}); "
            "delete it, and it is made anew"
        )


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """One half of a data set: its files in canonical order, and their labels (int64 [N])."""

    files: EncodedFiles
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """A data set whose images were all decoded once, somewhere: each of them is known to be readable.

    Attributes:
        train: the training half.
        test: the other.
        classes: their names.
        digest: of what the source holds (``Content``).
    """

    train: EncodedSplit
    test: EncodedSplit
    classes: tuple[str, ...]
    digest: str
