"""Which image goes into which shard: a function of the listing and the settings, and of nothing else.

A split is cut into runs of ``images_per_shard`` images in canonical order, the last one shorter. An image that was
repaired in its place changes its own shard only; one that was removed changes those after it. Free of pyarrow.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from dnw_core.data.formats.folder_listing import FolderListing, SplitListing
from dnw_core.data.formats.manifest import Settings, shard_name
from dnw_core.errors import DataBrokenError

_PREPARATION = 2  # counts changes of what a shard holds for the same images and settings; 2: samples of 16 bits


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be made.

    Attributes:
        name: of its file.
        split: ``train`` or ``validation``.
        folder: of the split in the source (``train``, ``val``).
        paths: of the images, below that folder.
        sizes: of their files, in bytes.
        labels: of their classes.
        made_from: SHA-256 over everything that decides what the shard holds.
    """

    name: str
    split: str
    folder: str
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[int, ...]
    made_from: str


def plan_shards(listing: FolderListing, settings: Settings) -> list[ShardPlan]:
    """Return all shards, those of ``train`` first.

    Raises:
        DataBrokenError: if the name of a class or an image is not UTF-8, which Parquet cannot hold.
    """
    _check_names(listing)
    # the number of images a shard is left out: it is how the images were cut, and they are there
    common = json.dumps([_PREPARATION, settings.short_side, settings.quality, listing.classes])
    return [
        shard
        for split, files in (("train", listing.train), ("validation", listing.test))
        for shard in _cut(split, files, settings.images_per_shard, common)
    ]


def _cut(split: str, files: SplitListing, images_per_shard: int, common: str) -> list[ShardPlan]:
    starts = range(0, len(files), images_per_shard)
    shards = []
    for index, start in enumerate(starts):
        rows = slice(start, start + images_per_shard)
        paths, sizes, labels = tuple(files.paths[rows]), tuple(files.sizes[rows]), tuple(files.labels[rows])
        content = json.dumps([common, split, paths, sizes, labels])
        shards.append(
            ShardPlan(
                name=shard_name(split, index, len(starts)),
                split=split,
                folder=files.folder,
                paths=paths,
                sizes=sizes,
                labels=labels,
                made_from=hashlib.sha256(content.encode()).hexdigest(),
            )
        )
    return shards


def _check_names(listing: FolderListing) -> None:
    for names in (listing.classes, listing.train.paths, listing.test.paths):
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError:
                raise DataBrokenError(f"{listing.root}: the name {name!a} is not UTF-8; rename it") from None
