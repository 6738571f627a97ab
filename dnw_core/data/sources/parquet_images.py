"""Images in Parquet files, laid out as on the Hugging Face hub: shards, an image column, a label column.

``img`` or ``image`` is a struct whose field ``bytes`` is a PNG or WebP file; ``label`` is an integer.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dnw_core.data.formats.pixels import rgb_of
from dnw_core.data.formats.readable import usable_cpus
from dnw_core.data.formats.shard_schema import LABEL_COLUMN, altered, class_names, find_image_column, only_paths
from dnw_core.data.sources.base import Split
from dnw_core.errors import DataBrokenError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SHARD = re.compile(r"-(?P<index>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?\.parquet$")
_FORMATS = ("PNG", "WEBP")
_CHUNK = 250  # images handed to a thread at a time


class Shards(NamedTuple):
    """The files of one split in order, and the names of those that should be there but are not."""

    files: tuple[Path, ...]
    missing: tuple[str, ...]


def find_shards(folder: Path, split: str) -> Shards:
    """Return the Parquet files ``<split>-*.parquet`` in ``folder``; names only, nothing is opened.

    Raises:
        DataBrokenError: if the files' names contradict each other (two counts, or a shard twice).
    """
    names, missing = order_shards([file.name for file in folder.glob(f"{split}-*.parquet")], split, str(folder))
    return Shards(tuple(folder / name for name in names), missing)


def order_shards(names: Iterable[str], split: str, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return those of ``names`` that are shards of ``split``, in order, and the names that are missing among them.

    Raises:
        DataBrokenError: as ``find_shards``; ``where`` names the folder.
    """
    files = tuple(sorted(name for name in names if name.startswith(f"{split}-") and name.endswith(".parquet")))
    if not files:
        return (), (f"{split}-*.parquet",)
    matches = [match for name in files if (match := _SHARD.search(name))]
    counts = {int(match["count"]) for match in matches}
    indices = [int(match["index"]) for match in matches]
    if not counts:
        return files, ()
    beyond = max(indices) >= max(counts)
    if len(counts) > 1 or len(matches) < len(files) or len(set(indices)) < len(indices) or beyond:
        raise DataBrokenError(
            f"{where} holds shards of more than one version ({', '.join(files)}); keep one version's files"
        )
    count = counts.pop()
    missing = sorted(set(range(count)) - set(indices))
    return files, tuple(f"{split}-{index:05}-of-{count:05}.parquet" for index in missing)


def read_shards(files: Sequence[Path], *, size: int, classes: Sequence[str]) -> Split:
    """Decode all images of ``files`` (in this order) with a pool of threads.

    Args:
        files: Parquet files.
        size: height and width that every image must have, in pixels.
        classes: names in the order of the labels; a file that has them in another order is refused.

    Raises:
        DataBrokenError: if a file does not parse, lacks a column, or holds an invalid image or label.
    """
    import numpy as np

    with ThreadPoolExecutor(usable_cpus()) as pool:
        parts = [_read_shard(file, size, classes, pool) for file in files]
    return Split(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))


def _read_shard(path: Path, size: int, classes: Sequence[str], pool: ThreadPoolExecutor) -> Split:
    import numpy as np

    encoded, labels = _read_columns(path, classes)
    images = np.empty((len(encoded), 3, size, size), dtype=np.uint8)
    jobs = [
        pool.submit(_decode_rows, path, encoded, range(start, min(start + _CHUNK, len(encoded))), images)
        for start in range(0, len(encoded), _CHUNK)
    ]
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel()
    outside = (labels < 0) | (labels >= len(classes))
    if outside.any():
        raise DataBrokenError(f"{path}: label {labels[outside][0]} is not in 0..{len(classes) - 1}")
    return Split(images, labels)


def _read_columns(path: Path, classes: Sequence[str]) -> tuple[list[bytes | None], npt.NDArray[np.int64]]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            column = find_image_column(file.schema_arrow, str(path))
            names = class_names(file.schema_arrow)
            table = file.read(columns=[column, LABEL_COLUMN])
        encoded = [row for chunk in table[column].chunks for row in chunk.field("bytes").to_pylist()]
        if table[LABEL_COLUMN].null_count:
            raise DataBrokenError(f"{path}: some labels are missing")
        labels = table[LABEL_COLUMN].cast(pa.int64()).to_numpy()
    except (pa.ArrowException, OSError) as error:
        raise DataBrokenError(altered(str(path), error)) from None
    if names is not None and names != tuple(classes) and sorted(names) == sorted(classes):
        raise DataBrokenError(f"{path} has its classes in another order: {', '.join(names)}, not {', '.join(classes)}")
    if encoded and not any(encoded):
        raise DataBrokenError(only_paths(f"{path}: each row"))
    return encoded, np.ascontiguousarray(labels, dtype=np.int64)


def _decode_rows(path: Path, encoded: list[bytes | None], rows: range, images: npt.NDArray[np.uint8]) -> None:
    size = images.shape[-1]
    for row in rows:
        try:
            images[row] = _decode_image(encoded[row], size)
        except Exception as error:  # what an image decoder raises on broken input has no common base
            raise DataBrokenError(f"{path}: row {row} is not an image of {size}x{size} pixels: {error}") from None


def _decode_image(content: bytes | None, size: int) -> Any:
    from PIL import Image

    if content is None:
        raise ValueError("it has no bytes")
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        if image.size != (size, size):  # before any pixel is decoded
            raise ValueError(f"it has {image.width}x{image.height}")
        pixels, objection = rgb_of(image)
        if objection is not None:
            raise ValueError(objection)
        return pixels.transpose(2, 0, 1)
