"""What a data set is to the rest of the project: uint8 pixels, labels, how to normalise, and a checksum.

Free of torch, and of numpy at import time: ``--plan`` looks for the data without paying for either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dnw_core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dnw_core.config import Execution
    from dnw_core.data.formats.encoded import EncodedImages

Channels = tuple[float, float, float]


class Split(NamedTuple):
    """The images (uint8 [N, 3, H, W], RGB) and labels (int64 [N]) of one half of a data set."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def checksum(self) -> str:
        """Return the SHA-256 over shape, pixels and labels, in this order of images."""
        digest = hashlib.sha256("x".join(str(size) for size in self.images.shape).encode())
        digest.update(self.images.data.cast("B"))
        digest.update(self.labels.astype("<i8", copy=False).data.cast("B"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Identity:
    """What a data set must be: pinned in its module, held against what was decoded."""

    train_count: int
    test_count: int
    train_checksum: str
    test_checksum: str

    @property
    def checksum(self) -> str:
        """The one SHA-256 that names the whole data set."""
        return hashlib.sha256(f"{self.train_checksum} {self.test_checksum}".encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A classification data set, decoded and verified; all arrays are read-only and safe to share.

    ``test_images`` are those that are scored on: the test half, or training images that were ``held_out``.
    ``mean`` and ``std`` are per channel (RGB) and on pixels in [0, 1]. ``checksum`` is the SHA-256 of the
    decoded pixels and labels of both halves; it goes into a trial's provenance.
    """

    name: str
    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    mean: Channels
    std: Channels
    checksum: str

    def held_out(self, count: int) -> ImageDataset:
        """Return the data set whose last ``count`` training images are scored on instead of the test images.

        They are no longer trained on, and the test images are in neither half. The order of the images decides which
        are held out (``cifar10``: by hash; ``digits``: the last ones in scikit-learn's file). 0 changes nothing.

        Raises:
            UserError: if no training image would be left.
        """
        if count == 0:
            return self
        images = len(self.train_images)
        if count >= images:
            raise UserError(
                f"data.validation_images is {count}, but {self.name} has {images} training images; "
                f"hold out {images - 1} at most"
            )
        return replace(
            self,
            train_images=self.train_images[:-count],
            train_labels=self.train_labels[:-count],
            test_images=self.train_images[-count:],
            test_labels=self.train_labels[-count:],
        )

    def limited(self, train: int | None, test: int | None) -> ImageDataset:
        """Return the data set with the first ``train`` training and ``test`` test images only (None: all).

        The checksum stays that of the whole data set: the limits are part of the recipe.
        """
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )


class Content(NamedTuple):
    """What a data set holds, as far as a recipe depends on it: number of classes, and a digest of names and sizes."""

    classes: int
    digest: str


class DatasetModule(Protocol):
    """What the module of a data set offers to the registry in ``dnw_core.data``."""

    def check(self, execution: Execution) -> None:
        """Raise DataMissingError if it is plain, without reading any image, that the files would not be found."""


class ResidentModule(DatasetModule, Protocol):
    """The module of a data set that is held in memory, decoded."""

    def load(self, execution: Execution) -> ImageDataset:
        """Return the data set; raises DataMissingError or DataBrokenError."""


class StreamedModule(DatasetModule, Protocol):
    """The module of a data set whose images are decoded as they are needed (``recipe.STREAMED``)."""

    def describe(self, execution: Execution) -> Content:
        """Return what the data set holds, from names and sizes; raises DataMissingError or DataBrokenError."""

    def open_images(self, execution: Execution) -> EncodedImages:
        """Return the images after each was decoded once (now or when they were prepared); raises DataBrokenError."""
