"""Rebuilds the tracker from the results folder: ``python pipelines/sync_mlflow.py --help``."""

import sys

if __name__ == "__main__":
    import _script  # noqa: F401 - first: it mends sys.path

    from pipelines.commands.sync_mlflow import main

    sys.exit(main())
