"""Which place of results an address names."""

from __future__ import annotations

from pathlib import Path

from pipelines.storage.backends import ResultsBackend, SharedFolderBackend
from pipelines.storage.bucket.client import Bucket
from pipelines.storage.bucket.mirror import mirror_folder
from pipelines.storage.bucket_backend import BucketBackend


def home_at(place: Path | str) -> ResultsBackend:
    """Return a folder that all machines see, or, for an address, a bucket's folder.

    Raises:
        UserError: if the address is of an unknown kind.
    """
    return (
        BucketBackend(Bucket.of(place), mirror_folder(place)) if isinstance(place, str) else SharedFolderBackend(place)
    )
