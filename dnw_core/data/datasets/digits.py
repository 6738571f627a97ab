"""``digits``: scikit-learn's own 1,797 real 8x8 images of handwritten digits, brought to 3x32x32.

They come with scikit-learn (UCI "Optical Recognition of Handwritten Digits", test part), so this data set
needs no download and stands in for CIFAR-10 at scale ``smoke``. All numbers are whole: the pixels,
and so the pinned checksum, are the same on every machine. The split is by hash, not by a library's random
generator: 36 images of each class are for testing, the rest for training.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from dnw_core.config import DATASET_IMAGES
from dnw_core.data.sources.base import Channels, Identity, ImageDataset, Split
from dnw_core.errors import DataBrokenError, DataMissingError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dnw_core.config import Execution

TEST_IMAGES_PER_CLASS = 36
IDENTITY = Identity(
    *DATASET_IMAGES["digits"],
    train_checksum="ddba520d3a5fc9b241168bd0778c4e6ef6e17d517bffd3dd6c4d20a2770600cf",
    test_checksum="62fe48f86366b14a79cf09d80c0f16040fd81dacd6c8cdcd222b003cfb4bc533",
)
CLASSES = tuple(str(digit) for digit in range(10))
# of the 1,437 training images, on pixels in [0, 1]; grey, so all channels agree
MEAN: Channels = (0.3051, 0.3051, 0.3051)
STD: Channels = (0.3237, 0.3237, 0.3237)


def check(execution: Execution) -> None:
    """See ``dnw_core.data.check_dataset``."""
    del execution  # needs no folder
    _package_folder()


def load(execution: Execution) -> ImageDataset:
    """See ``dnw_core.data.load_dataset``; takes some 20 ms, and nothing when a process loads them again."""
    del execution
    return _load(_package_folder())


@functools.cache
def _load(package_folder: Path) -> ImageDataset:
    import numpy as np

    levels, labels = _read_table(package_folder)
    images = _to_pixels(levels)
    tested = np.zeros(len(labels), dtype=bool)
    tested[_test_positions(labels.tolist())] = True
    train = Split(images[~tested], labels[~tested])
    test = Split(images[tested], labels[tested])
    for name, split, expected in (
        ("train", train, IDENTITY.train_checksum),
        ("test", test, IDENTITY.test_checksum),
    ):
        found = split.checksum()
        if found != expected:
            raise DataBrokenError(
                f"digits: the {name} images differ from those this project knows: expected SHA-256 {expected}, "
                f"found {found}; reinstall scikit-learn"
            )
        split.images.flags.writeable = False
        split.labels.flags.writeable = False
    return ImageDataset("digits", *train, *test, CLASSES, MEAN, STD, IDENTITY.checksum)


def _package_folder() -> Path:
    specification = importlib.util.find_spec("sklearn")  # finds the package without importing it
    if specification is None or not specification.submodule_search_locations:
        raise DataMissingError(
            "digits: scikit-learn, which brings these images, is not installed; pip install scikit-learn"
        )
    return Path(specification.submodule_search_locations[0])


def _read_table(package_folder: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the grey levels 0..16 [N, 8, 8] and the labels [N].

    The table inside the package is read directly: importing ``sklearn.datasets`` takes most of a second, in
    each trial. Should a release move it, scikit-learn's own loader finds it; the checksum covers both ways.
    """
    import numpy as np

    path = package_folder / "datasets" / "data" / "digits.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.int64) if path.is_file() else _read_by_library()
    except (OSError, EOFError, ValueError) as error:
        raise DataBrokenError(f"digits: {path} cannot be read ({error}); reinstall scikit-learn") from None
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].copy()


def _read_by_library() -> npt.NDArray[np.int64]:
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.int64)


def _to_pixels(levels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Enlarge 8x8 to 32x32 bilinearly (half-pixel centres, edges repeated), scale 0..16 to 0..255, round."""
    import numpy as np

    weights = np.zeros((32, 8), dtype=np.int64)  # in eighths: an output pixel's centre falls at (i - 1.5) / 4
    for pixel in range(32):
        left, eighths = divmod(2 * pixel - 3, 8)
        weights[pixel, max(left, 0)] += 8 - eighths
        weights[pixel, min(left + 1, 7)] += eighths
    # 0 .. 16 * 64: exact in float64, whose products are ten times as fast as those of integers
    enlarged = weights.astype(np.float64) @ levels.astype(np.float64) @ weights.T.astype(np.float64)
    greys = ((np.arange(16 * 64 + 1) * 255 + 512) // 1024).astype(np.uint8)
    return np.repeat(greys[enlarged.astype(np.int64)][:, None], 3, axis=1)


def _test_positions(labels: list[int]) -> list[int]:
    """Return which images are for testing: of each class those whose position has the smallest SHA-256."""
    positions: list[int] = []
    for label in sorted(set(labels)):
        of_class = [position for position, other in enumerate(labels) if other == label]
        of_class.sort(key=lambda position: hashlib.sha256(str(position).encode()).digest())
        positions += of_class[:TEST_IMAGES_PER_CLASS]
    return positions
