"""One shard: its images prepared and written as a Parquet file that is either whole or not there.

The layout is the Hugging Face hub's: ``image`` (struct of ``bytes`` and ``path``), ``label``, and the class names in
the schema's metadata. Bytes are not compressed again, and row groups are small, so that a reader of a few images reads
little. The file's bytes depend on the plan alone: they are the same whichever process writes it, and whenever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnw_core.data.formats.manifest import Settings, Shard
from dnw_core.data.prepare.image import prepare_image
from dnw_core.data.prepare.plan import ShardPlan
from dnw_core.errors import DataBrokenError
from dnw_core.files import sha256_of, write_atomically

ROW_GROUP = 100  # images


@dataclass(frozen=True)
class Preparation:
    """What all shards of a preparation have in common."""

    source: Path
    out: Path
    classes: tuple[str, ...]
    settings: Settings


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used, and why. ``path`` is below the source."""

    path: str
    reason: str


class BadImagesError(DataBrokenError):
    """Images cannot be used; ``images`` names all of them."""

    def __init__(self, message: str, images: Sequence[BadImage] = ()) -> None:
        super().__init__(message)
        self.images = images


def is_whole(preparation: Preparation, shard: Shard) -> bool:
    """Tell whether a shard's file is there and has the size and the SHA-256 that it had when it was written."""
    path = preparation.out / shard.name
    try:
        return path.stat().st_size == shard.bytes and sha256_of(path) == shard.sha256
    except FileNotFoundError:
        return False


def make_shard(preparation: Preparation, plan: ShardPlan, progress: Callable[[int], None]) -> Shard:
    """Write the shard.

    Args:
        preparation: source, target, settings.
        plan: what the shard is to hold.
        progress: called with a number of images whenever as many more are done.

    Raises:
        BadImagesError: if images cannot be used; nothing is written then.
        OSError: if the file cannot be written. Whatever ``progress`` raises passes through.
    """
    path = preparation.out / plan.name
    write_atomically(path, lambda temporary: _write(temporary, preparation, plan, progress))
    return Shard(name=plan.name, sha256=sha256_of(path), images=len(plan.paths), bytes=path.stat().st_size)


def read_prepared(preparation: Preparation, plan: ShardPlan, row: int) -> bytes:
    """Return the JPEG file that the shard holds for its image ``row``.

    Raises:
        ValueError: if the image cannot be used; says why in a few words.
    """
    try:
        content = (preparation.source / plan.folder / plan.paths[row]).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    if len(content) != plan.sizes[row]:
        raise ValueError(f"changed while it was prepared: {plan.sizes[row]} bytes were listed, {len(content)} found")
    return prepare_image(content, preparation.settings.short_side, preparation.settings.quality)


def _write(temporary: Path, preparation: Preparation, plan: ShardPlan, progress: Callable[[int], None]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(preparation.classes)
    bad: list[BadImage] = []
    with pq.ParquetWriter(
        temporary, schema, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        for start in range(0, len(plan.paths), ROW_GROUP):
            rows = range(start, min(start + ROW_GROUP, len(plan.paths)))
            images = []
            for row in rows:
                try:
                    images.append({"bytes": read_prepared(preparation, plan, row), "path": plan.paths[row]})
                except ValueError as error:
                    bad.append(BadImage(f"{plan.folder}/{plan.paths[row]}", str(error)))
            if not bad:  # the rest is read for its bad images only
                labels = [plan.labels[row] for row in rows]
                writer.write_table(pa.Table.from_pydict({"image": images, "label": labels}, schema=schema))
            progress(len(rows))
    if bad:
        raise BadImagesError(f"{len(bad)} bad images", bad)


def _schema(classes: tuple[str, ...]) -> Any:
    import pyarrow as pa

    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    return pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
