"""Opening a data set that is streamed (``recipe.STREAMED``): its images, held against the recipe, as feeds.

Images lie in the order of their classes, so the first or last of them would be whole classes. Which ones a limit leaves
and which are held out therefore goes by a fixed order that has nothing to do with theirs: rising SHA-256 of an image's
place in its split. Held out are the last ones of that order, a limit takes the first of those that are left.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from dnw_core.data import STREAMED_DATASETS
from dnw_core.data.feeds.batches import check_whole_batch
from dnw_core.data.feeds.feed import Feeds
from dnw_core.data.formats.encoded import EncodedImages, EncodedSplit
from dnw_core.data.formats.folder_listing import first_of
from dnw_core.data.streaming.feed import StreamedFeed
from dnw_core.data.streaming.loader import make_loader
from dnw_core.errors import DataBrokenError, UserError

if TYPE_CHECKING:
    from dnw_core.config import DataConfig, Execution, Recipe

Rows = npt.NDArray[np.int64]


def open_streamed(recipe: Recipe, execution: Execution, device: torch.device) -> Feeds:
    """Return the recipe's images as batches on ``device``; their loader processes start at once.

    Every image was decoded once by then: now (which takes a while the first time), or when it was prepared.

    Raises:
        DataMissingError: if the data set is not there.
        DataBrokenError: if an image cannot be decoded, or the data set is not the planned one.
        UserError: if it does not fit the network, or has too few images to hold out.
    """
    images = STREAMED_DATASETS[recipe.data.dataset].open_images(execution)
    check_streamed_fit(recipe, images)
    (train, train_rows), (test, test_rows) = choose(images, recipe.data)
    loader = make_loader(execution.loader_workers)
    size = recipe.network.image_size
    return Feeds(
        train=StreamedFeed(train, train_rows, recipe.data, size, device, loader),
        test=StreamedFeed(test, test_rows, recipe.data, size, device, loader),
        checksum=images.digest,
    )


def check_streamed_fit(recipe: Recipe, images: EncodedImages) -> None:
    """Check that these are the planned images, that the network has their classes, and that enough are left.

    Raises:
        DataBrokenError: if the data set is not the planned one, or a class has no image.
        UserError: if it does not fit the network, or has too few images to hold out or to train on.
    """
    data = recipe.data
    if data.content is not None and images.digest != data.content:
        raise DataBrokenError(
            f"{data.dataset}: the images are not those that were planned (content {images.digest[:8]}, planned "
            f"{data.content[:8]}): files were added, removed or changed; give the command again"
        )
    if recipe.network.classes != len(images.classes):
        raise UserError(
            f"the network has {recipe.network.classes} classes, {data.dataset} has {len(images.classes)} classes"
        )
    if data.validation_images >= len(images.train):
        raise UserError(
            f"data.validation_images is {data.validation_images}, but {data.dataset} has {len(images.train)} training "
            f"images; hold out {len(images.train) - 1} at most"
        )
    check_whole_batch(recipe, len(images.train))
    _check_classes(data.dataset, images)


def _check_classes(name: str, images: EncodedImages) -> None:
    """Refuse a class without an image: a folder with one is refused when it is listed, shards only tell it here."""
    for half, split in (("training", images.train), ("validation", images.test)):
        present = {*np.unique(split.labels).tolist()}
        absent = [repr(class_name) for label, class_name in enumerate(images.classes) if label not in present]
        if absent:
            raise DataBrokenError(
                f"{name}: there is no {half} image of class {first_of(absent)}; add the shards that hold them, or "
                "write the shards without these class names"
            )


def choose(images: EncodedImages, data: DataConfig) -> tuple[tuple[EncodedSplit, Rows], tuple[EncodedSplit, Rows]]:
    """Return which images are trained on and which are scored on: the split, and the rows in it, rising."""
    held_out, count = data.validation_images, len(images.train)
    order = _fixed_order(count) if held_out or _cuts(data.train_images, count) else np.arange(count)
    left, scored = order[: count - held_out], order[count - held_out :]
    train = (images.train, np.sort(left[: data.train_images]))
    if held_out:
        return train, (images.train, np.sort(scored[: data.test_images]))
    count = len(images.test)
    order = _fixed_order(count) if _cuts(data.test_images, count) else np.arange(count)
    return train, (images.test, np.sort(order[: data.test_images]))


def _cuts(limit: int | None, count: int) -> bool:
    return limit is not None and limit < count


def _fixed_order(count: int) -> Rows:
    return np.array(sorted(range(count), key=lambda row: hashlib.sha256(str(row).encode()).digest()), dtype=np.int64)
