"""Prints what every row's network costs, beside the published numbers: ``python pipelines/costs.py --help``."""

import sys

if __name__ == "__main__":
    import _script  # noqa: F401 - first: it mends sys.path

    from pipelines.commands.costs import main

    sys.exit(main())
