"""Searches for a row's unpublished hyper-parameters: ``python pipelines/search.py --help``."""

import sys

if __name__ == "__main__":
    import _script  # noqa: F401 - first: it mends sys.path

    from pipelines.commands.search import main

    sys.exit(main())
