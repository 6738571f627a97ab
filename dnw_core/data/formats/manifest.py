"""``manifest.json``: what a prepared folder of Parquet shards holds, written last and so only when all of it is there.

The shards are beside it, in the layout of the Hugging Face hub: ``train-00000-of-00313.parquet``, column ``image`` (a
struct of ``bytes``, a JPEG file that was decoded in full when it was prepared, and ``path``, ``class/file`` as in the
source's split), column ``label`` (its class's position in ``classes``). Images are in the canonical order of
``folder_listing``. The manifest holds neither dates nor folders: the same images prepared twice have the same one, and
its SHA-256 names the data set. Free of torch, numpy and pyarrow.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from dnw_core.config import Config
from dnw_core.errors import DataBrokenError, DataMissingError

MANIFEST_FILE = "manifest.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Shard(Config):
    """One Parquet file of a split.

    Attributes:
        name: the file's name.
        sha256: of the whole file.
        images: rows.
        bytes: the file's size.
    """

    name: str
    sha256: Sha256
    images: int = Field(ge=1)
    bytes: int = Field(ge=1)


class PreparedSplit(Config):
    """The images of one split, and its shards in order."""

    images: int = Field(ge=1)
    shards: tuple[Shard, ...] = Field(min_length=1)


class Settings(Config):
    """What decides, beside the images, what a preparation writes.

    Attributes:
        short_side: pixels to which the shorter side of larger images is reduced; None if all keep their size.
        quality: of the JPEGs that are encoded anew; the others keep their source's bytes.
        images_per_shard: rows of each shard but a split's last.
    """

    short_side: int | None = Field(ge=1)
    quality: int = Field(ge=1, le=100)
    images_per_shard: int = Field(ge=1)


class Manifest(Config):
    """A prepared folder.

    Attributes:
        version: of this layout.
        classes: class names; a label is a place in this list.
        settings: how it was prepared.
        source: digest of the listing that was prepared (``FolderListing.digest``).
        train: training images.
        validation: validation images.
    """

    version: Literal[1]
    classes: tuple[str, ...] = Field(min_length=1)
    settings: Settings
    source: Sha256
    train: PreparedSplit
    validation: PreparedSplit

    @property
    def splits(self) -> dict[str, PreparedSplit]:
        """Return ``train`` and ``validation`` by name."""
        return {"train": self.train, "validation": self.validation}

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Return all shards, those of ``train`` first."""
        return self.train.shards + self.validation.shards

    @model_validator(mode="after")
    def _check_agreement(self) -> Manifest:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class is named twice")
        for split, prepared in self.splits.items():
            expected = [shard_name(split, index, len(prepared.shards)) for index in range(len(prepared.shards))]
            if [shard.name for shard in prepared.shards] != expected:
                raise ValueError(f"the shards of {split} are not {expected[0]} to {expected[-1]}")
            counted = sum(shard.images for shard in prepared.shards)
            if counted != prepared.images:
                raise ValueError(f"{split} has {prepared.images} images, its shards {counted}")
        return self


def shard_name(split: str, index: int, count: int) -> str:
    """Return the name of a split's shard: ``train-00000-of-00313.parquet``."""
    return f"{split}-{index:05}-of-{count:05}.parquet"


def manifest_text(manifest: Manifest) -> str:
    """Return the file's text: indented JSON whose last entry is a checksum of the others."""
    values = manifest.model_dump(mode="json")
    return json.dumps({**values, "checksum": _checksum(values)}, indent=1, ensure_ascii=True) + "\n"


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file.

    Raises:
        DataMissingError: if there is no such file.
        DataBrokenError: if it cannot be read, is not a manifest, or was altered.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataMissingError(f"{path} is not there; python pipelines/prepare.py writes it at its end") from None
    except OSError as error:
        raise DataBrokenError(f"{path} cannot be read: {error.strerror or error}") from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Return the manifest that a file's bytes hold.

    Args:
        content: the bytes, wherever they were read.
        where: the file's name, for messages.

    Raises:
        DataBrokenError: if they are not a manifest, contradict themselves, or were altered since they were written.
    """
    advice = "prepare the images anew with python pipelines/prepare.py"
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise DataBrokenError(f"{where} is truncated or not a manifest; {advice}") from None
    if not isinstance(values, dict) or "version" not in values:
        raise DataBrokenError(f"{where} is not a manifest of prepared images; {advice}")
    if values["version"] != 1:
        raise DataBrokenError(f"{where} has version {values['version']!r}, and this project reads version 1; {advice}")
    if values.pop("checksum", None) != _checksum(values):
        raise DataBrokenError(f"{where} was altered after it was written: its checksum does not fit; {advice}")
    try:
        return Manifest.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = re.sub(r"^Value error, ", "", first["msg"])
        raise DataBrokenError(f"{where}: {place + ': ' if place else ''}{reason}; {advice}") from None


def _checksum(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
