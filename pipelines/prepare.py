"""Turns a folder of images into Parquet shards: ``python pipelines/prepare.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # run as a script, Python puts this folder first, where `import pipelines` finds nothing: the root takes its place
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

from pipelines.prepare_command import main

if __name__ == "__main__":
    sys.exit(main())
