"""``image-folder``: any images in ``train/<class>/`` and ``val/<class>/``, or Parquet shards of such.

What it is depends on the folder that is given, so a recipe names it by its content (``DataConfig.content``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dnw_core.data.sources.image_source import find_source

if TYPE_CHECKING:
    from dnw_core.config import Execution
    from dnw_core.data.formats.encoded import EncodedImages
    from dnw_core.data.sources.base import Content

NAME = "image-folder"


def check(execution: Execution) -> None:
    """See ``dnw_core.data.check_dataset``."""
    find_source(NAME, execution)


def describe(execution: Execution) -> Content:
    """See ``base.StreamedModule``; a second for ten thousand files on a local disk."""
    return find_source(NAME, execution).describe()


def open_images(execution: Execution) -> EncodedImages:
    """See ``base.StreamedModule``."""
    return find_source(NAME, execution).open_images(NAME, execution)
