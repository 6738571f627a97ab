"""Where a streamed data set is: Parquet shards, or a folder of images; looked for by names only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dnw_core.data.formats.encoded import EncodedImages
from dnw_core.data.formats.folder_listing import missing_folders
from dnw_core.data.sources.base import Content
from dnw_core.data.sources.folder_source import FolderSource
from dnw_core.data.sources.location import LocalLocation, data_location
from dnw_core.data.sources.shard_source import find_shards
from dnw_core.errors import DataMissingError

if TYPE_CHECKING:
    from dnw_core.config import Execution


class ImageSource(Protocol):
    """A complete set of image files."""

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""

    def describe(self) -> Content:
        """Return what a recipe depends on."""

    def counts(self) -> tuple[int, int]:
        """Return the number of training and test images."""

    def open_images(self, name: str, execution: Execution) -> EncodedImages:
        """Return the images, each known to be readable; ``name`` is the data set's."""


def find_source(name: str, execution: Execution) -> ImageSource:
    """Return the source in ``<data_dir>/<name>`` or ``data_dir`` itself; in each, shards come before a folder.

    Raises:
        DataMissingError: if there is none; names what was looked for and where.
        DataBrokenError: if there are shards but not all of them.
        UserError: if ``data_dir`` is a URI that cannot be opened.
    """
    base = data_location(execution)
    incomplete: list[str] = []
    for location in (base.below(name), base):
        for inner in (location, location.below("data")):
            shards = find_shards(inner, incomplete)
            if shards is not None:
                return shards
        if isinstance(location, LocalLocation):
            missing = missing_folders(location.path)
            if not missing:
                return FolderSource(location.path)
            if len(missing) == 1:
                incomplete.append(f"{location} lacks {missing[0]}/")
    advice = "give the folder that holds it with --data-dir"
    if incomplete:
        raise DataMissingError(f"{name} is incomplete: {'; '.join(incomplete)}; add it, or {advice}")
    folders = "neither train/<class>/ and val/<class>/ nor " if isinstance(base, LocalLocation) else "no "
    joined = "and" if isinstance(base, LocalLocation) else "or"
    raise DataMissingError(
        f"{name} was not found in {base.below(name)} and {base}: {folders}train-*.parquet {joined} "
        f"validation-*.parquet; {advice}"
    )
