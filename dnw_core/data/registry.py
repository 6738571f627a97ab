"""The data sets by name.

A new data set is one module with ``load`` and ``check`` (``base.ResidentModule``), one line in ``RESIDENT_DATASETS``
and its name in ``recipe.DatasetName``. One that is streamed has ``open_images`` instead of ``load``
(``base.StreamedModule``). Free of torch, numpy and pyarrow at import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnw_core.data.datasets import cifar10, digits, image_folder, imagenet
from dnw_core.data.sources.base import DatasetModule, ImageDataset, ResidentModule, StreamedModule
from dnw_core.errors import UserError
from dnw_core.nearest import nearest

if TYPE_CHECKING:
    from dnw_core.config import Execution
    from dnw_core.data.formats.encoded import EncodedImages

RESIDENT_DATASETS: dict[str, ResidentModule] = {"cifar10": cifar10, "digits": digits}
STREAMED_DATASETS: dict[str, StreamedModule] = {"imagenet": imagenet, "image-folder": image_folder}
DATASETS: dict[str, DatasetModule] = {**RESIDENT_DATASETS, **STREAMED_DATASETS}


def check_dataset(name: str, execution: Execution) -> None:
    """Look, cheaply and without torch, whether ``open_dataset`` would find the files. Contents are not read.

    With ``execution.download`` missing files are not an error: they will be fetched.

    Raises:
        DataMissingError: if files are missing; names the folders searched and what to do.
        UserError: if the name is unknown.
    """
    _check_name(name)
    DATASETS[name].check(execution)


def open_dataset(name: str, execution: Execution) -> ImageDataset | EncodedImages:
    """Return the data set called ``name``: decoded where it fits into memory, its verified image files otherwise.

    Raises:
        DataMissingError: if its files are not in the folders searched, or could not be downloaded.
        DataBrokenError: if they are truncated or altered.
        UserError: if the name is unknown or the cache folder cannot be written.
    """
    _check_name(name)
    if name in STREAMED_DATASETS:
        return STREAMED_DATASETS[name].open_images(execution)
    return RESIDENT_DATASETS[name].load(execution)


def load_dataset(name: str, execution: Execution) -> ImageDataset:
    """Return a data set that fits into memory, decoded and verified (downloaded first if ``execution`` says so).

    Raises:
        UserError: as ``open_dataset``.
    """
    _check_name(name)
    assert name in RESIDENT_DATASETS, f"{name} is streamed"
    return RESIDENT_DATASETS[name].load(execution)


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise UserError(f"there is no data set {name!r}{nearest(name, DATASETS)}")
