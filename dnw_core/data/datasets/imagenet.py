"""``imagenet``: ILSVRC 2012, 1,281,167 training and 50,000 validation images of 1,000 classes (Russakovsky, 2015).

From a folder in torchvision's layout, or from Parquet shards: prepared ones, or those of the Hugging Face hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnw_core.config import DATASET_IMAGES
from dnw_core.data.sources.image_source import ImageSource, find_source
from dnw_core.errors import DataBrokenError

if TYPE_CHECKING:
    from dnw_core.config import Execution
    from dnw_core.data.formats.encoded import EncodedImages
    from dnw_core.data.sources.base import Content

NAME = "imagenet"
CLASSES = 1000
TRAIN_COUNT, TEST_COUNT = DATASET_IMAGES["imagenet"]


def check(execution: Execution) -> None:
    """See ``dnw_core.data.check_dataset``; the classes are counted, too."""
    _check_classes(find_source(NAME, execution))


def describe(execution: Execution) -> Content:
    """See ``base.StreamedModule``."""
    source = find_source(NAME, execution)
    _check_classes(source)
    return source.describe()


def open_images(execution: Execution) -> EncodedImages:
    """See ``base.StreamedModule``."""
    source = find_source(NAME, execution)
    _check_classes(source)
    for split, found, expected in zip(
        ("training", "validation"), source.counts(), (TRAIN_COUNT, TEST_COUNT), strict=True
    ):
        if found != expected:
            raise DataBrokenError(
                f"{NAME}: expected {expected:,} {split} images, found {found:,}; is the copy complete?"
            )
    return source.open_images(NAME, execution)


def _check_classes(source: ImageSource) -> None:
    found = len(source.classes())
    if found != CLASSES:
        raise DataBrokenError(
            f"{NAME}: expected {CLASSES:,} classes, found {found:,}; other images are read as image-folder"
        )
