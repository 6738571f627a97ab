"""Clears this machine for its end: ``python pipelines/leave_node.py --help``."""

import sys

if __name__ == "__main__":
    import _script  # noqa: F401 - first: it mends sys.path

    from pipelines.commands.leave_node import main

    sys.exit(main())
