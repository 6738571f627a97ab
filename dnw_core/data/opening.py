"""The images that a recipe asks for, as batches: those it trains on, and those it is scored on.

A streamed data set's images are in the order of their classes, so the first or last of them would be whole classes.
Which ones a limit leaves and which are held out therefore follows a fixed order that is unrelated to theirs: rising
SHA-256 of an image's position in its split. The last ones of that order are held out; a limit takes the first of those
that are left.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from dnw_core.data.feeds.batches import DeviceImages, ResidentFeed
from dnw_core.data.feeds.feed import Feeds
from dnw_core.data.fit import check_fit
from dnw_core.data.formats.encoded import EncodedImages, EncodedSplit
from dnw_core.data.registry import open_dataset
from dnw_core.data.sources.base import ImageDataset
from dnw_core.data.streaming.feed import StreamedFeed
from dnw_core.data.streaming.loader import make_loader

if TYPE_CHECKING:
    from dnw_core.config import DataConfig, Execution, Recipe

Rows = npt.NDArray[np.int64]


def open_feeds(recipe: Recipe, execution: Execution, device: torch.device) -> Feeds:
    """Return the recipe's images as batches on ``device``; close them when they are no longer needed.

    A streamed data set starts its loader processes at once, and each of its images was decoded once by then: now, which
    takes a while the first time, or when it was prepared.

    Raises:
        DataMissingError: if the data set is not there.
        DataBrokenError: if it is truncated or altered, an image cannot be decoded, or it is not the planned one.
        UserError: if it does not fit the network, or has too few images to hold out.
    """
    images = open_dataset(recipe.data.dataset, execution)
    check_fit(recipe, images)
    if isinstance(images, ImageDataset):
        images = images.held_out(recipe.data.validation_images)
        images = images.limited(recipe.data.train_images, recipe.data.test_images)
        return Feeds(
            train=ResidentFeed(DeviceImages.training(images, device), recipe.data),
            test=ResidentFeed(DeviceImages.test(images, device), recipe.data),
            checksum=images.checksum,
        )
    (train, train_rows), (test, test_rows) = choose(images, recipe.data)
    loader = make_loader(execution.loader_workers)
    size = recipe.network.image_size
    return Feeds(
        train=StreamedFeed(train, train_rows, recipe.data, size, device, loader),
        test=StreamedFeed(test, test_rows, recipe.data, size, device, loader),
        checksum=images.digest,
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
