"""Reproduces the paper's tables: ``python pipelines/reproduce_all.py --help``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # run as a script, Python puts this folder first, where `import pipelines` finds nothing and `import lock`
    # finds ours: the repository's root takes its place
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

INTERRUPTED = 130

if __name__ == "__main__":
    hears = signal.getsignal(signal.SIGINT)
    if hears is signal.default_int_handler:
        # reading the modules takes a moment, in which libraries turn a Ctrl-C into errors of their own
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from pipelines.cli import main

    signal.signal(signal.SIGINT, hears)
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is to leave; libraries print tracebacks when disturbed
    sys.exit(code)
