"""The rows of a Parquet shard of images, as image files with labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dnw_core.data.formats.shard_schema import LABEL_COLUMN, altered, find_image_column, only_paths
from dnw_core.errors import DataBrokenError

_ROWS = 256  # read at a time


class Row(NamedTuple):
    """One image: its file, its label, and its path below the split if the shard tells it."""

    content: bytes
    label: int
    name: str | None


def read_rows(content: bytes, classes: int, where: str) -> Iterator[Row]:
    """Yield a shard's rows in order.

    Args:
        content: the whole file.
        classes: labels must be below this.
        where: the file's name, for messages.

    Raises:
        DataBrokenError: if it does not parse, lacks a column, or has a row without an image or with a wrong label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            column = find_image_column(file.schema_arrow, where)
            row = 0
            for batch in file.iter_batches(_ROWS, columns=[column, LABEL_COLUMN]):
                for image, label in zip(
                    batch.column(column).to_pylist(), batch.column(LABEL_COLUMN).to_pylist(), strict=True
                ):
                    if image is not None and image["bytes"] is None and image.get("path"):
                        raise DataBrokenError(only_paths(f"{where}: row {row}"))
                    if image is None or not image["bytes"]:
                        raise DataBrokenError(f"{where}: row {row} has no image")
                    if not isinstance(label, int) or not 0 <= label < classes:
                        raise DataBrokenError(f"{where}: row {row} has label {label}; labels are 0 to {classes - 1}")
                    yield Row(image["bytes"], label, image.get("path"))
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise DataBrokenError(altered(where, error)) from None
