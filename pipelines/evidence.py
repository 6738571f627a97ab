"""Keeps finished paper-scale trials in the repository: ``python pipelines/evidence.py --help``."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("_script.py")))  # first: it mends sys.path

    from pipelines.commands.evidence import main

    sys.exit(main())
