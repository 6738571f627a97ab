"""``cifar10``: 50,000 training and 10,000 test images of 32x32 (Krizhevsky, 2009).

It is read from torchvision's folder or from Parquet files (``cifar10_source``), decoded once into the cache,
and held against a checksum of pixels and labels. So that training is the same to the bit from either source,
also from one whose files were shuffled, images are put into one canonical order: rising SHA-256 of an image's
pixels (RGB, channels first) and label (one byte). The order carries no meaning; training shuffles anyway.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dnw_core.config import DATASET_IMAGES
from dnw_core.data.datasets import cifar10_download, cifar10_source
from dnw_core.data.sources.base import Channels, Identity, ImageDataset, Split
from dnw_core.data.sources.cache import CACHE_VERSION, cached_splits
from dnw_core.errors import DataBrokenError, DataMissingError

if TYPE_CHECKING:
    from dnw_core.config import Execution
    from dnw_core.data.datasets.cifar10_source import Source

# of the splits in canonical order, as Split.checksum computes it
IDENTITY = Identity(
    *DATASET_IMAGES["cifar10"],
    train_checksum="7059677da6f3a253d698c72f4d4ac5d5246a4cffb103ff78007050860ecfed40",
    test_checksum="5a83215b1ab8fcf28a6951624ba23d78f1b192f34a536ba43b6c1c6e1e1b522a",
)
CLASSES = cifar10_source.CLASSES
MEAN: Channels = (0.491, 0.482, 0.447)  # facts 3
STD: Channels = (0.247, 0.243, 0.262)


def check(execution: Execution) -> None:
    """See ``dnw_core.data.check_dataset``."""
    try:
        cifar10_source.find_source(execution)
    except DataMissingError:
        if not execution.download:
            raise


def load(execution: Execution) -> ImageDataset:
    """See ``dnw_core.data.load_dataset``; some 10 s the first time on two cores, 0.2 s from the cache."""
    source = _find_or_download(execution)
    key = f"cifar10-v{CACHE_VERSION}-{source.checksum()[:16]}"
    train, test = cached_splits(key, IDENTITY, lambda: _decode(source), execution)
    return ImageDataset("cifar10", *train, *test, CLASSES, MEAN, STD, IDENTITY.checksum)


def _find_or_download(execution: Execution) -> Source:
    try:
        return cifar10_source.find_source(execution)
    except DataMissingError:
        if not execution.download:
            raise
    cifar10_download.download(execution)
    return cifar10_source.find_source(execution)


def _decode(source: Source) -> tuple[Split, Split]:
    train, test = (canonical_order(split) for split in source.decode())
    for name, split, count, checksum in (
        ("train", train, IDENTITY.train_count, IDENTITY.train_checksum),
        ("test", test, IDENTITY.test_count, IDENTITY.test_checksum),
    ):
        if len(split.labels) != count:
            raise DataBrokenError(
                f"cifar10: {source.describe(name)}: expected {count} {name} images, found {len(split.labels)}"
            )
        found = split.checksum()
        if found != checksum:
            raise DataBrokenError(
                f"cifar10: {source.describe(name)}: the {name} images or labels are not CIFAR-10's: "
                f"expected pixel checksum (SHA-256) {checksum}, found {found}"
            )
    return train, test


def canonical_order(split: Split) -> Split:
    """Return the split sorted by each image's hash; equal images with equal labels cannot be told apart anyway."""
    import numpy as np

    labels = split.labels.tolist()
    hashes = [
        hashlib.sha256(image.tobytes() + bytes([label])).digest()
        for image, label in zip(split.images, labels, strict=True)
    ]
    order = np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)
    return Split(split.images[order], split.labels[order])
