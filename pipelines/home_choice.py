"""Which place of results the options name."""

from __future__ import annotations

from pipelines.bucket import Bucket
from pipelines.cli_options import Options
from pipelines.home import HeadHome, Home, SharedHome
from pipelines.home_bucket import BucketHome


def home_of(options: Options) -> Home:
    """Return the place that the options name.

    Raises:
        UserError: if its address is of an unknown kind.
    """
    if options.results_uri is not None:
        return BucketHome(Bucket.of(options.results_uri), options.results_dir)
    return HeadHome(options.results_dir) if options.store == "head" else SharedHome(options.results_dir)
