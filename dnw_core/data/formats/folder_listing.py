"""The files of an image folder in torchvision's layout (``train/<class>/*``, ``val/<class>/*``), in canonical order.

The canonical order is that of torchvision's ImageFolder: classes by name, then files by path. Every source of the same
images (the folder, Parquet shards made from it, a packed cache) keeps it, so that a seed draws the same batches.

Nothing is opened: names and sizes only, asked for by a few threads at once since a network file system takes its time
over each. Free of torch and numpy.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dnw_core.errors import DataBrokenError, DataMissingError

TRAIN_FOLDER = "train"
TEST_FOLDERS = ("val", "validation")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
OTHER_SUFFIXES = frozenset({".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".html", ".log", ".db", ".ini", ".sha256"})
_THREADS = 16
_NAMED = 5  # in a message


@dataclass(frozen=True)
class SplitListing:
    """The image files of one split, in canonical order; all three sequences have the same length.

    Attributes:
        folder: the split's folder, ``train`` or ``val``.
        paths: relative to the split's folder, with forward slashes: ``class/name``.
        sizes: in bytes.
        labels: index of the class.
    """

    folder: str
    paths: Sequence[str]
    sizes: Sequence[int]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class FolderListing:
    """All image files of a folder. ``test`` is what the folder calls ``val`` or ``validation``."""

    root: Path
    classes: tuple[str, ...]
    train: SplitListing
    test: SplitListing

    def digest(self) -> str:
        """Return the SHA-256 over the names and sizes of all files: another one if a file was added or changed."""
        digest = hashlib.sha256()
        for name, split in (("train", self.train), ("test", self.test)):
            digest.update(f"{name}\n".encode())
            for path, size in zip(split.paths, split.sizes, strict=True):
                digest.update(f"{path}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def missing_folders(root: Path) -> tuple[str, ...]:
    """Return which of ``train`` and ``val`` are not there: cheap, and no promise that the others are sound."""
    present = ((root / TRAIN_FOLDER).is_dir(), any((root / name).is_dir() for name in TEST_FOLDERS))
    return tuple(name for name, found in zip((TRAIN_FOLDER, TEST_FOLDERS[0]), present, strict=True) if not found)


def list_folder(root: Path) -> FolderListing:
    """Return the image files under ``root``.

    Files that are hidden or of a known other kind (``.txt``) are left out; classes may have folders in them.

    Raises:
        DataMissingError: if there is no folder ``train``, ``val`` or ``validation``.
        DataBrokenError: if a class has no images, the splits have different classes, a file is not an image, or both
            names of the second split are there.
    """
    missing = missing_folders(root)
    if missing:
        raise DataMissingError(
            f"{root} has no folder {' and '.join(missing)}; image folders are train/<class>/ and val/<class>/"
        )
    test_folder, *others = [name for name in TEST_FOLDERS if (root / name).is_dir()]
    if others:
        raise DataBrokenError(f"{root} has both {test_folder} and {others[0]}; keep the one that is to be scored on")
    classes = list_classes(root / TRAIN_FOLDER)
    _check_same(root, classes, test_folder, list_classes(root / test_folder))
    return FolderListing(
        root, classes, _list_split(root, TRAIN_FOLDER, classes), _list_split(root, test_folder, classes)
    )


def list_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of a split's classes, sorted.

    Raises:
        DataBrokenError: if there are none.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataBrokenError(f"{folder} cannot be read: {error.strerror or error}") from None
    if not names:
        raise DataBrokenError(f"{folder} has no class folder; image folders are train/<class>/ and val/<class>/")
    return tuple(names)


def first_of(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are, for a message."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _check_same(root: Path, train: tuple[str, ...], test_folder: str, test: tuple[str, ...]) -> None:
    parts = [
        f"only in {folder}: {first_of(sorted(only))}"
        for folder, only in ((TRAIN_FOLDER, set(train) - set(test)), (test_folder, set(test) - set(train)))
        if only
    ]
    if parts:
        raise DataBrokenError(f"{root}: {TRAIN_FOLDER} and {test_folder} have different classes ({'; '.join(parts)})")


def _list_split(root: Path, folder: str, classes: tuple[str, ...]) -> SplitListing:
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda name: _list_class(root / folder, name), classes))
    strange = [f"{folder}/{path}" for _, others in found for path in others]
    if strange:
        raise DataBrokenError(f"{root} holds files that are not images: {first_of(strange)}; remove them")
    empty = [f"{folder}/{name}" for name, (files, _) in zip(classes, found, strict=True) if not files]
    if empty:
        raise DataBrokenError(f"{root} has classes without an image: {first_of(empty)}")
    return SplitListing(
        folder,
        paths=[path for files, _ in found for path, _ in files],
        sizes=[size for files, _ in found for _, size in files],
        labels=[label for label, (files, _) in enumerate(found) for _ in files],
    )


def _list_class(split: Path, name: str) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the images (path, bytes) of a class in order, and the files that should not be there."""
    images: list[tuple[str, int]] = []
    strange: list[str] = []
    try:
        for path, entry in _walk(split / name, name):
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - a Path each takes as long as the rest
            if suffix in IMAGE_SUFFIXES:
                images.append((path, entry.stat().st_size))
            elif suffix not in OTHER_SUFFIXES:
                strange.append(path)
    except OSError as error:
        raise DataBrokenError(f"{error.filename or split / name} cannot be read: {error.strerror or error}") from None
    images.sort(key=lambda image: image[0].rpartition("/")[::2])  # as ImageFolder: by folder, then by name
    return images, strange


def _walk(
    folder: Path, name: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the files below ``folder``: path below the split, and entry; ``above`` are the folders that hold it."""
    found = folder.stat()
    here = (found.st_dev, found.st_ino)
    if here in above:  # it would hold itself for ever
        raise OSError(errno.ELOOP, "it is a link to a folder that holds it", str(folder))
    with os.scandir(folder) as listed:
        entries = [entry for entry in listed if not entry.name.startswith(".")]
    folders = []
    for entry in entries:
        if entry.is_dir():
            folders.append(entry.name)
        elif entry.is_file():
            yield f"{name}/{entry.name}", entry
        else:
            raise FileNotFoundError(0, "it is not a file (a broken link?)", str(folder / entry.name))
    for inner in folders:
        yield from _walk(folder / inner, f"{name}/{inner}", above | {here})
