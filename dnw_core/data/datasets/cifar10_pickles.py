"""torchvision's CIFAR-10 folder: six Python pickles, opened only with known MD5 and never able to run code.

The MD5s are those that torchvision's ``CIFAR10`` class publishes (a test compares them). The unpickler admits
what these files are made of, lists, strings, integers and numpy arrays, and refuses every other name.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

from dnw_core.data.sources.base import Split
from dnw_core.errors import DataBrokenError

FOLDER = "cifar-10-batches-py"
TRAIN_FILES: dict[str, str] = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
TEST_FILES: dict[str, str] = {"test_batch": "40351d587109b95175f43aff81a1287e"}

_PIXELS = 3 * 32 * 32


def read_batches(folder: Path, files: dict[str, str]) -> Split:
    """Return the images and labels of the batch files (name -> expected MD5) in this order.

    Raises:
        DataBrokenError: if a file cannot be read, has another MD5, or holds anything but images and labels.
    """
    import numpy as np

    parts = [_read_batch(folder / name, md5) for name, md5 in files.items()]
    return Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))


def _read_batch(path: Path, expected: str) -> Split:
    import numpy as np

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataBrokenError(f"cifar10: {path} cannot be read: {error.strerror or error}") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataBrokenError(
            f"cifar10: {path} is truncated or altered: expected MD5 {expected}, found {found}; "
            "delete it and fetch it again with --download"
        )
    try:
        values: Any = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        pixels, labels = values["data"], np.array(values["labels"], dtype=np.int64)
    except Exception as error:  # a broken pickle can raise anything
        raise DataBrokenError(f"cifar10: {path} is not a batch of images: {error}") from None
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape != (len(labels), _PIXELS)
        or labels.ndim != 1
        or not ((labels >= 0) & (labels < 10)).all()
    ):
        raise DataBrokenError(f"cifar10: {path} is not a batch of 32x32 images with labels 0..9")
    return Split(pixels.reshape(-1, 3, 32, 32), labels)


class _ArrayUnpickler(pickle.Unpickler):
    """Admits plain values and numpy arrays only."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return the few names that an array's pickle needs; refuse all others before anything is called."""
        import numpy as np

        if module_name in ("numpy.core.multiarray", "numpy._core.multiarray") and global_name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # the same function, wherever this numpy keeps it
        if (module_name, global_name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module_name, global_name) == ("numpy", "dtype"):
            # as these files call it, but with the booleans that newer numpy insists on
            return lambda code, align=False, copy=True: np.dtype(code, align=bool(align), copy=bool(copy))
        raise pickle.UnpicklingError(
            f"it asks for {module_name}.{global_name}, which does not belong there; not loaded"
        )
