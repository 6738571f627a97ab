"""Which place of results an address names."""

from __future__ import annotations

from pathlib import Path

from pipelines.storage.backends import Home, SharedHome
from pipelines.storage.bucket.client import Bucket
from pipelines.storage.bucket.mirror import mirror_folder
from pipelines.storage.bucket_backend import BucketHome


def home_at(place: Path | str) -> Home:
    """Return a folder that all machines see, or, for an address, a bucket's folder.

    Raises:
        UserError: if the address is of an unknown kind.
    """
    return BucketHome(Bucket.of(place), mirror_folder(place)) if isinstance(place, str) else SharedHome(place)
