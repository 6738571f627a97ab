"""Images in torchvision's folder layout on a disk of this machine or NFS: read where they are, when they are needed.

Before the first training every image is decoded once, and a small file in the cache remembers that: it counts for this
folder with these names and sizes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dnw_core.data.formats.encoded import EncodedImages, EncodedSplit, FolderFiles
from dnw_core.data.formats.folder_listing import TRAIN_FOLDER, FolderListing, SplitListing, list_classes, list_folder
from dnw_core.data.formats.readable import describe_unreadable, find_unreadable
from dnw_core.data.sources.base import Content
from dnw_core.data.sources.cache import cache_folder, folder_errors
from dnw_core.data.sources.locks import file_lock
from dnw_core.errors import DataBrokenError
from dnw_core.files import write_text

if TYPE_CHECKING:
    from dnw_core.config import Execution

_CHECK_VERSION = 2  # of what is asked of an image; 2: that its samples say what is white


@dataclass(frozen=True)
class FolderSource:
    """A folder with ``train/<class>/`` and ``val/<class>/``."""

    root: Path

    @functools.cached_property
    def listing(self) -> FolderListing:
        """Names and sizes of all files; raises DataBrokenError."""
        return list_folder(self.root)

    def classes(self) -> tuple[str, ...]:
        """Return the names of the training classes, without looking at any file."""
        return list_classes(self.root / TRAIN_FOLDER)

    def describe(self) -> Content:
        """See ``base.StreamedModule``."""
        return Content(len(self.listing.classes), self.listing.digest())

    def counts(self) -> tuple[int, int]:
        """Return the number of training and test images."""
        return len(self.listing.train), len(self.listing.test)

    def open_images(self, name: str, execution: Execution) -> EncodedImages:
        """Return the images, each of them decoded once if that was not done before.

        Raises:
            DataBrokenError: if one cannot be decoded.
            UserError: if the cache folder cannot be written.
        """
        digest = self.listing.digest()
        folder = cache_folder(execution)
        content = f"{self.root.resolve()}\0{digest}".encode("utf-8", "surrogateescape")
        key = f"{name}-checked-v{_CHECK_VERSION}-{hashlib.sha256(content).hexdigest()[:16]}"
        marker = folder / f"{key}.json"
        if not marker.is_file():
            with contextlib.ExitStack() as stack:
                with folder_errors(folder, "what was checked"):
                    folder.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(file_lock(folder / f"{key}.lock"))
                if not marker.is_file():  # another process may have been faster
                    self._check()
                    with folder_errors(folder, "what was checked"):
                        write_text(marker, json.dumps({"digest": digest, "images": sum(self.counts())}) + "\n")
        train, test = (self._encoded(split) for split in (self.listing.train, self.listing.test))
        return EncodedImages(train, test, self.listing.classes, digest)

    def _check(self) -> None:
        bad: dict[str, str] = {}
        for split in (self.listing.train, self.listing.test):
            files = FolderFiles(self.root / split.folder, split.paths)
            found = find_unreadable(len(files), files.read)
            bad |= {f"{split.folder}/{split.paths[row]}": reason for row, reason in found.items()}
        if bad:
            raise DataBrokenError(describe_unreadable(str(self.root), bad, sum(self.counts())))

    def _encoded(self, split: SplitListing) -> EncodedSplit:
        import numpy as np

        return EncodedSplit(FolderFiles(self.root / split.folder, split.paths), np.array(split.labels, dtype=np.int64))
