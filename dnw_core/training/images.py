"""The images that a recipe asks for: those it trains on, and those it is scored on."""

from __future__ import annotations

import torch

from dnw_core.config import STREAMED, Execution, Recipe
from dnw_core.data import ImageDataset, load_dataset
from dnw_core.data.feeds.batches import DeviceImages, ResidentFeed, check_whole_batch
from dnw_core.data.feeds.feed import Feeds
from dnw_core.errors import UserError


def open_feeds(recipe: Recipe, execution: Execution, device: torch.device) -> Feeds:
    """Return the recipe's images as batches on ``device``; close them when they are no longer needed.

    Raises:
        UserError: if the data set is missing or broken, or does not fit the network.
    """
    if recipe.data.dataset in STREAMED:
        from dnw_core.data.streaming.streamed import open_streamed

        return open_streamed(recipe, execution, device)
    dataset = load_images(recipe, execution)
    return Feeds(
        train=ResidentFeed(DeviceImages.training(dataset, device), recipe.data),
        test=ResidentFeed(DeviceImages.test(dataset, device), recipe.data),
        checksum=dataset.checksum,
    )


def load_images(recipe: Recipe, execution: Execution) -> ImageDataset:
    """Return the recipe's data set: held-out images first set apart, then both halves cut to what is asked for.

    Raises:
        UserError: if it is missing or broken, does not fit the network, or has too few images to hold out.
    """
    dataset = load_dataset(recipe.data.dataset, execution)
    check_fit(recipe, dataset)
    held_out = dataset.held_out(recipe.data.validation_images)
    return held_out.limited(recipe.data.train_images, recipe.data.test_images)


def check_fit(recipe: Recipe, dataset: ImageDataset) -> None:
    """Check that the network takes the images and their classes, and that enough remain of them for training.

    Raises:
        UserError: saying what does not fit.
    """
    dataset.held_out(recipe.data.validation_images)
    size = dataset.train_images.shape[-1]
    if recipe.network.image_size != size:
        raise UserError(f"the network takes {recipe.network.image_size}-pixel images, {dataset.name} has {size}")
    if recipe.network.classes != len(dataset.classes):
        raise UserError(
            f"the network has {recipe.network.classes} classes, {dataset.name} has {len(dataset.classes)} classes"
        )
    check_whole_batch(recipe, len(dataset.train_images))
