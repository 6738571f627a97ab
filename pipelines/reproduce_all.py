"""Reproduces the paper's tables: ``python pipelines/reproduce_all.py --help``."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

INTERRUPTED = 130

if __name__ == "__main__":
    hears = signal.getsignal(signal.SIGINT)
    if hears is signal.default_int_handler:
        # reading the modules takes a moment, in which libraries turn a Ctrl-C into errors of their own
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    runpy.run_path(str(Path(__file__).with_name("_script.py")))  # first: it mends sys.path

    from pipelines.commands.reproduce_all import main

    signal.signal(signal.SIGINT, hears)
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is to leave; libraries print tracebacks when disturbed
    sys.exit(code)
