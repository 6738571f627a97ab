"""What a Parquet shard of images holds: its class names, and its rows as image files with labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from dnw_core.errors import DataBroken

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_COLUMNS = ("image", "img")
_ROWS = 256  # read at a time


class Row(NamedTuple):
    """One image: its file, its label, and its path below the split if the shard tells it."""

    content: bytes
    label: int
    name: str | None


def read_classes(file: Any, where: str) -> tuple[str, ...]:
    """Return the class names that a shard's schema tells (metadata of the Hugging Face libraries).

    Args:
        file: the shard, open.
        where: its name, for messages.

    Raises:
        DataBroken: if it is no Parquet file, or tells no names.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise DataBroken(_altered(where, error)) from None
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        return tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        raise DataBroken(
            f"{where} does not tell the names of its classes (schema metadata 'huggingface'); "
            "make the shards with python pipelines/prepare.py"
        ) from None


def count_rows(file: Any, where: str) -> int:
    """Return a shard's number of images, from its footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataBroken(_altered(where, error)) from None


def read_rows(content: bytes, classes: int, where: str) -> Iterator[Row]:
    """Yield a shard's rows in order.

    Args:
        content: the whole file.
        classes: labels must be below this.
        where: the file's name, for messages.

    Raises:
        DataBroken: if it does not parse, lacks a column, or has a row without an image or with a wrong label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            column = _image_column(file.schema_arrow, where)
            row = 0
            for batch in file.iter_batches(_ROWS, columns=[column, "label"]):
                for image, label in zip(
                    batch.column(column).to_pylist(), batch.column("label").to_pylist(), strict=True
                ):
                    if image is None or not image["bytes"]:
                        raise DataBroken(f"{where}: row {row} has no image")
                    if not isinstance(label, int) or not 0 <= label < classes:
                        raise DataBroken(f"{where}: row {row} has label {label}; labels are 0 to {classes - 1}")
                    yield Row(image["bytes"], label, image.get("path"))
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise DataBroken(_altered(where, error)) from None


def _image_column(schema: pa.Schema, where: str) -> str:
    import pyarrow as pa

    column = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    if column is None or "label" not in schema.names:
        raise DataBroken(f"{where}: expected columns image (or img) and label; found {', '.join(schema.names)}")
    kind = schema.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise DataBroken(f"{where}: column {column} has no field 'bytes'; found {kind}")
    return column


def _altered(where: str, error: BaseException) -> str:
    return f"{where} is truncated or altered, or no Parquet file: {' '.join(str(error).split())}"
