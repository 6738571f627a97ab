"""Searches for a row's unpublished hyper-parameters: ``python pipelines/search.py --help``."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("_script.py")))  # first: it mends sys.path

    from pipelines.commands.search import main

    sys.exit(main())
