"""Data sets: found, decoded, verified and handed out as uint8 arrays.

A new data set is one module with ``load`` and ``check`` (``base.DatasetModule``), one line in ``DATASETS`` and
its name in ``recipe.DatasetName``. Importing this package loads neither torch nor numpy nor pyarrow.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from dnw_core.data import cifar10, digits
from dnw_core.data.base import DatasetModule, ImageDataset
from dnw_core.errors import UserError

if TYPE_CHECKING:
    from dnw_core.execution import Execution

DATASETS: dict[str, DatasetModule] = {
    "cifar10": cifar10,
    "digits": digits,
}

__all__ = ["DATASETS", "ImageDataset", "check_dataset", "load_dataset"]


def load_dataset(name: str, execution: Execution) -> ImageDataset:
    """Return the data set called ``name``, decoded and verified (downloaded first if ``execution`` says so).

    Raises:
        DataMissing: if its files are not in the folders looked in, or could not be downloaded.
        DataBroken: if they are truncated or altered.
        UserError: if the name is unknown or the cache folder cannot be written.
    """
    return _module(name).load(execution)


def check_dataset(name: str, execution: Execution) -> None:
    """Look, cheaply and without torch, whether ``load_dataset`` would find the files. Contents are not read.

    With ``execution.download`` missing files are no error: they will be fetched.

    Raises:
        DataMissing: if files are missing; names the folders looked in and what to do.
        UserError: if the name is unknown.
    """
    _module(name).check(execution)


def _module(name: str) -> DatasetModule:
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(DATASETS))}"
        raise UserError(f"there is no data set '{name}'; {hint}")
    return DATASETS[name]
