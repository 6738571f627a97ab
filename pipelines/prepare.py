"""Turns a folder of images into Parquet shards: ``python pipelines/prepare.py --help``."""

import sys

if __name__ == "__main__":
    import _script  # noqa: F401 - first: it mends sys.path

    from pipelines.commands.prepare import main

    sys.exit(main())
