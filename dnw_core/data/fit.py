"""Whether a recipe can be trained on a data set. Free of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnw_core.data.feeds.feed import steps_per_epoch
from dnw_core.data.formats.folder_listing import first_of
from dnw_core.data.sources.base import ImageDataset
from dnw_core.errors import DataBrokenError, UserError

if TYPE_CHECKING:
    from dnw_core.config import Recipe
    from dnw_core.data.formats.encoded import EncodedImages


def check_fit(recipe: Recipe, images: ImageDataset | EncodedImages) -> None:
    """Check that these are the planned images, that the network takes them, and that enough remain for training.

    Raises:
        DataBrokenError: if a streamed data set is not the planned one, or one of its classes has no image.
        UserError: saying what does not fit.
    """
    name, network = recipe.data.dataset, recipe.network
    if isinstance(images, ImageDataset):
        size = images.train_images.shape[-1]
        if network.image_size != size:
            raise UserError(f"the network takes {network.image_size}-pixel images, {name} has {size}")
    elif recipe.data.content is not None and images.digest != recipe.data.content:
        raise DataBrokenError(
            f"{name}: the images are not those that were planned (content {images.digest[:8]}, planned "
            f"{recipe.data.content[:8]}): files were added, removed or changed; give the command again"
        )
    if network.classes != len(images.classes):
        raise UserError(f"the network has {network.classes} classes, {name} has {len(images.classes)} classes")
    check_counts(recipe, len(images.train_images if isinstance(images, ImageDataset) else images.train))
    if not isinstance(images, ImageDataset):
        _check_classes(name, images)


def check_counts(recipe: Recipe, images: int) -> None:
    """Check that images remain to train on, and a whole batch of them where incomplete ones are left out.

    Args:
        recipe: what is trained.
        images: of the data set's training half, before any are held out or left out.

    Raises:
        UserError: if not; says what would do.
    """
    left = images - recipe.data.validation_images
    if left < 1:
        raise UserError(
            f"data.validation_images is {recipe.data.validation_images}, but {recipe.data.dataset} has {images} "
            f"training images; hold out {images - 1} at most"
        )
    left = min(left, recipe.data.train_images or left)
    if steps_per_epoch(left, recipe.batch_size, drop_last=recipe.drop_last) < 1:
        raise UserError(
            f"drop_last leaves out incomplete batches, and {left} training images are less than one batch of "
            f"{recipe.batch_size}; set batch_size to {left} at most, or drop_last to false"
        )


def _check_classes(name: str, images: EncodedImages) -> None:
    """Refuse a class without an image: a folder with one is refused when it is listed, shards only reveal it here."""
    for half, split in (("training", images.train), ("validation", images.test)):
        present = set(split.labels.tolist())
        absent = [repr(class_name) for label, class_name in enumerate(images.classes) if label not in present]
        if absent:
            raise DataBrokenError(
                f"{name}: there is no {half} image of class {first_of(absent)}; add the shards that hold them, or "
                "write the shards without these class names"
            )
