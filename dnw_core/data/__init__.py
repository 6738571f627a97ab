"""Data sets: found, verified, and handed out as uint8 arrays or, where they are too large, as image files to decode.

A new data set is one module with ``load`` and ``check`` (``base.ResidentModule``), one line in ``RESIDENT_DATASETS``
and its name in ``recipe.DatasetName``. One that is streamed has ``open_images`` instead of ``load``
(``base.StreamedModule``). Importing this package loads neither torch nor numpy nor pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnw_core.data.datasets import cifar10, digits, image_folder, imagenet
from dnw_core.data.sources.base import DatasetModule, ImageDataset, ResidentModule, StreamedModule
from dnw_core.errors import UserError
from dnw_core.nearest import nearest

if TYPE_CHECKING:
    from dnw_core.config import Execution

RESIDENT_DATASETS: dict[str, ResidentModule] = {
    "cifar10": cifar10,
    "digits": digits,
}
STREAMED_DATASETS: dict[str, StreamedModule] = {
    "imagenet": imagenet,
    "image-folder": image_folder,
}
DATASETS: dict[str, DatasetModule] = {**RESIDENT_DATASETS, **STREAMED_DATASETS}

__all__ = ["DATASETS", "RESIDENT_DATASETS", "STREAMED_DATASETS", "ImageDataset", "check_dataset", "load_dataset"]


def load_dataset(name: str, execution: Execution) -> ImageDataset:
    """Return the data set called ``name``, decoded and verified (downloaded first if ``execution`` says so).

    One that is streamed is opened by ``streamed.open_streamed`` instead.

    Raises:
        DataMissingError: if its files are not in the folders looked in, or could not be downloaded.
        DataBrokenError: if they are truncated or altered.
        UserError: if the name is unknown or the cache folder cannot be written.
    """
    _check_name(name)
    assert name in RESIDENT_DATASETS, f"{name} is streamed"
    return RESIDENT_DATASETS[name].load(execution)


def check_dataset(name: str, execution: Execution) -> None:
    """Look, cheaply and without torch, whether ``load_dataset`` would find the files. Contents are not read.

    With ``execution.download`` missing files are no error: they will be fetched.

    Raises:
        DataMissingError: if files are missing; names the folders looked in and what to do.
        UserError: if the name is unknown.
    """
    _check_name(name)
    DATASETS[name].check(execution)


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}{nearest(name, DATASETS)}")
