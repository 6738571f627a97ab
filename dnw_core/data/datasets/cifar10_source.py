"""Where CIFAR-10's files are: torchvision's folder, or Parquet files laid out as on the Hugging Face hub.

Looking is cheap (names only), so that a missing file is found before anything is trained.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dnw_core.data.datasets.cifar10_pickles import FOLDER as PICKLE_FOLDER
from dnw_core.data.datasets.cifar10_pickles import TEST_FILES, TRAIN_FILES, read_batches
from dnw_core.data.sources.base import Split
from dnw_core.data.sources.parquet_images import find_shards, read_shards
from dnw_core.errors import DataBrokenError, DataMissingError

if TYPE_CHECKING:
    from dnw_core.config import Execution

NAME = "cifar10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGE_SIZE = 32


class Source(Protocol):
    """A complete set of files to decode."""

    def checksum(self) -> str:
        """Return the SHA-256 over all files; raises DataBrokenError if one cannot be read."""

    def decode(self) -> tuple[Split, Split]:
        """Return train and test as the files hold them; raises DataBrokenError."""

    def describe(self, split: str) -> str:
        """Return the files of ``train`` or ``test``, for a message."""


@dataclass(frozen=True)
class PickleSource:
    """torchvision's ``cifar-10-batches-py``."""

    folder: Path

    def checksum(self) -> str:
        """See Source."""
        return _checksum([self.folder / name for name in (*TRAIN_FILES, *TEST_FILES)])

    def decode(self) -> tuple[Split, Split]:
        """See Source."""
        return read_batches(self.folder, TRAIN_FILES), read_batches(self.folder, TEST_FILES)

    def describe(self, split: str) -> str:
        """See Source."""
        return str(self.folder)


@dataclass(frozen=True)
class ParquetSource:
    """``train-*.parquet`` and ``test-*.parquet``, all shards of each."""

    train: tuple[Path, ...]
    test: tuple[Path, ...]

    def checksum(self) -> str:
        """See Source."""
        return _checksum([*self.train, *self.test])

    def decode(self) -> tuple[Split, Split]:
        """See Source."""
        return (
            read_shards(self.train, size=_IMAGE_SIZE, classes=CLASSES),
            read_shards(self.test, size=_IMAGE_SIZE, classes=CLASSES),
        )

    def describe(self, split: str) -> str:
        """See Source."""
        files = self.train if split == "train" else self.test
        return f"{files[0].parent}/{', '.join(file.name for file in files)}"


def candidate_folders(execution: Execution) -> tuple[Path, ...]:
    """Return the folders to look in: ``cifar10/`` in the data folder, then the data folder itself."""
    base = execution.data_folder()
    return (base / NAME, base)


def find_source(execution: Execution) -> Source:
    """Return the first complete source; torchvision's folder comes before Parquet files.

    Raises:
        DataMissingError: if there is none; names missing files where some were found, else the folders looked in.
        DataBrokenError: if shards contradict each other.
    """
    folders = candidate_folders(execution)
    incomplete: list[str] = []
    try:
        for folder in folders:
            source = _pickles_in(folder, incomplete) or _parquet_in(folder, incomplete)
            if source is not None:
                return source
        base = folders[-1]
        looked = " and ".join(str(folder) for folder in folders) if base.is_dir() else f"{base} (no such folder)"
    except PermissionError as error:
        raise DataMissingError(f"cifar10: {error.filename} may not be read: {error.strerror}") from None
    advice = "give the folder that holds it with --data-dir, or fetch it with --download"
    if incomplete:
        raise DataMissingError(f"cifar10 is incomplete: {'; '.join(incomplete)}; add it, {advice}")
    raise DataMissingError(
        f"cifar10 was not found in {looked}: neither {PICKLE_FOLDER}/ nor train-*.parquet and test-*.parquet; {advice}"
    )


def _pickles_in(folder: Path, incomplete: list[str]) -> PickleSource | None:
    names = (*TRAIN_FILES, *TEST_FILES)
    for place in (folder / PICKLE_FOLDER, folder):
        missing = [name for name in names if not (place / name).is_file()]
        if not missing:
            return PickleSource(place)
        if len(missing) < len(names):
            incomplete.append(f"{place} lacks {', '.join(missing)}")
    return None


def _parquet_in(folder: Path, incomplete: list[str]) -> ParquetSource | None:
    for place in (folder, folder / "data", folder / "plain_text"):
        train, test = find_shards(place, "train"), find_shards(place, "test")
        missing = [*train.missing, *test.missing]
        if not missing:
            return ParquetSource(train.files, test.files)
        if train.files or test.files:
            incomplete.append(f"{place} lacks {', '.join(missing)}")
    return None


def _checksum(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataBrokenError(f"cifar10: {path} cannot be read: {error.strerror or error}") from None
    return whole.hexdigest()
