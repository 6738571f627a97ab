"""What a Parquet file of images says of itself in its footer: columns, class names, number of rows.

Read from every shard, not from the first one only: shards that disagree would be read as one data set, with labels that
mean something else in each. pyarrow is loaded when a shard is looked at.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from dnw_core.data.formats.folder_listing import first_of
from dnw_core.errors import DataBrokenError

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"
_EMBED = (
    "the picture itself is missing; write the shards again with "
    "dataset.with_format('arrow').map(datasets.table.embed_table_storage, batched=True).to_parquet(...)"
)


class Footer(NamedTuple):
    """What a shard tells without being read.

    Attributes:
        column: the one with the images.
        classes: their names, in the order of the labels.
        rows: number of images.
    """

    column: str
    classes: tuple[str, ...]
    rows: int


def read_footer(file: Any, where: str) -> Footer:
    """Return a shard's footer.

    Args:
        file: the shard, open.
        where: its name, for messages.

    Raises:
        DataBrokenError: if it is not a Parquet file, lacks a column or the pictures, or names no classes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as shard:
            schema, metadata = shard.schema_arrow, shard.metadata
    except (pa.ArrowException, OSError) as error:
        raise DataBrokenError(altered(where, error)) from None
    column = find_image_column(schema, where)
    if _no_bytes(metadata, f"{column}.bytes"):
        raise DataBrokenError(only_paths(f"{where}: each row"))
    classes = class_names(schema)
    if classes is None:
        raise DataBrokenError(
            f"{where} does not tell the names of its classes (schema metadata 'huggingface'); "
            "make the shards with python pipelines/prepare.py"
        )
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise DataBrokenError(f"{where} has two classes of the name {twice[0]!r}; give each class a name of its own")
    return Footer(column, classes, int(metadata.num_rows))


def check_agreement(footers: Iterable[tuple[str, Footer]], where: str) -> None:
    """Refuse shards that cannot be one data set.

    Args:
        footers: name and footer of each shard.
        where: the folder, for messages.

    Raises:
        DataBrokenError: if class names, their order or the image column of one differ from the first one's; names both.
    """
    (first, expected), *others = footers
    for name, footer in others:
        if footer.classes != expected.classes:
            raise DataBrokenError(f"{where}: {_differing(first, expected.classes, name, footer.classes)}")
        if footer.column != expected.column:
            raise DataBrokenError(
                f"{where}: {first} has its images in column {expected.column}, {name} in {footer.column}; "
                "write all shards alike"
            )


def find_image_column(schema: pa.Schema, where: str) -> str:
    """Return the name of the column with the images, in a file that has labels, too.

    Raises:
        DataBrokenError: if there is none, or more than one, if it holds no files, or if there are no integer labels.
    """
    import pyarrow as pa

    found = [name for name in IMAGE_COLUMNS if name in schema.names]
    if not found:
        raise DataBrokenError(f"{where}: expected columns img or image, and label; found {', '.join(schema.names)}")
    if len(found) > 1 or schema.names.count(found[0]) > 1:
        raise DataBrokenError(
            f"{where} has more than one column of images, named image or img; drop those not to be read"
        )
    _check_labels(schema, where)
    kind = schema.field(found[0]).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        advice = "; write a struct of 'bytes' (a PNG, JPEG or WebP file) and 'path', as datasets' Image() does"
        raise DataBrokenError(f"{where}: column {found[0]} has no field 'bytes'; found {kind}{advice}")
    return found[0]


def class_names(schema: pa.Schema) -> tuple[str, ...] | None:
    """Return the class names that the metadata of the Hugging Face libraries tell, or None if they tell none."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][LABEL_COLUMN]["names"]
        return tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return None


def only_paths(where: str) -> str:
    """Return the line for what names a picture without holding it: a row, or each row of a file."""
    return f"{where} has no image, only its path: {_EMBED}"


def altered(where: str, error: BaseException) -> str:
    """Return the line for a file that does not parse."""
    return f"{where} is truncated or altered, or no Parquet file: {' '.join(str(error).split())}"


def _check_labels(schema: pa.Schema, where: str) -> None:
    import pyarrow as pa

    if schema.names.count(LABEL_COLUMN) > 1:
        raise DataBrokenError(f"{where} has more than one column {LABEL_COLUMN!r}; drop those not to be read")
    if LABEL_COLUMN in schema.names:
        kind = schema.field(LABEL_COLUMN).type
        if not pa.types.is_integer(kind):
            raise DataBrokenError(
                f"{where}: column {LABEL_COLUMN!r} holds {kind}; labels are integers, the place of a class in the list "
                "of their names (datasets' ClassLabel)"
            )
        return
    integers = [repr(field.name) for field in schema if pa.types.is_integer(field.type)]
    missing = f"{where} has no column {LABEL_COLUMN!r}"
    if not integers:
        raise DataBrokenError(f"{missing}, and none of integers; found {', '.join(schema.names)}")
    if len(integers) == 1:
        raise DataBrokenError(f"{missing}; its integer column is {integers[0]}: rename it to {LABEL_COLUMN!r}")
    raise DataBrokenError(
        f"{missing}; its integer columns are {', '.join(integers)}: rename the one with the classes to {LABEL_COLUMN!r}"
    )


def _no_bytes(metadata: Any, path: str) -> bool:
    """Tell whether the statistics of a column say that all of it is empty."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    empty = [
        column.is_stats_set
        and column.statistics.has_null_count
        and 0 < column.num_values == column.statistics.null_count
        for column in columns
        if column.path_in_schema == path
    ]
    return bool(empty) and all(empty)


def _differing(first: str, expected: tuple[str, ...], other: str, found: tuple[str, ...]) -> str:
    if sorted(expected) == sorted(found):
        place = next(place for place, name in enumerate(expected) if found[place] != name)
        return (
            f"{first} and {other} have the same classes in another order (label {place} is {expected[place]!r} in the "
            f"one and {found[place]!r} in the other); write all shards with one list of class names"
        )
    pairs = [f"{mine!r} and {theirs!r}" for mine, theirs in zip_longest(expected, found) if mine != theirs]
    return f"{first} and {other} have different classes: {first_of(pairs)}"
