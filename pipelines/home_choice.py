"""Which place of results the options name."""

from __future__ import annotations

from pathlib import Path

from pipelines.bucket import Bucket
from pipelines.cli_options import Options
from pipelines.home import HeadHome, Home, SharedHome
from pipelines.home_bucket import BucketHome
from pipelines.mirror_place import mirror_folder


def home_of(options: Options) -> Home:
    """Return the place that the options name.

    Raises:
        UserError: if its address is of an unknown kind.
    """
    if options.store == "head" and options.results_uri is None:
        return HeadHome(options.results_dir)
    return home_at(options.results_uri or options.results_dir)


def home_at(place: Path | str) -> Home:
    """Return a folder that all machines see, or, for an address, a bucket's folder.

    Raises:
        UserError: if the address is of an unknown kind.
    """
    return BucketHome(Bucket.of(place), mirror_folder(place)) if isinstance(place, str) else SharedHome(place)
