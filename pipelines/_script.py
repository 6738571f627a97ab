"""Makes ``python pipelines/NAME.py`` find the packages: every script of this folder runs it first.

Run as a script, Python puts this folder first in ``sys.path``, where ``import pipelines`` finds nothing and
``import search`` would find ours. The repository's root takes its place.
"""

import sys
from pathlib import Path

_here = Path(__file__).resolve().parent
sys.path[:] = [
    str(_here.parent),
    *(entry for entry in sys.path if Path(entry or ".").resolve() not in (_here, _here.parent)),
]
