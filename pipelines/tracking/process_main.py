"""The process in which a run's tracker works (``tracker_beside``): rows in, outcomes out, one JSON line each.

It ends with its standard input, also in the middle of its work: then the driver has ended, and another one may have
begun. Whatever a library prints goes to standard error, so that answers stay answers.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pipelines.tracking.tracker import Tracker


def main() -> None:
    """Answer until nobody asks any more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    questions = _questions()
    tracker = Tracker(json.loads(next(questions)), Path(sys.argv[1]))
    tracker.prepare()
    for question in questions:
        outcome = asdict(tracker.sync(json.loads(question)))
        print(json.dumps({**outcome, "cpu_seconds": time.process_time()}), file=answers, flush=True)


def _questions() -> Iterator[str]:
    """Yield the lines of standard input; its end is the end of the process."""
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            asked.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield asked.get()


if __name__ == "__main__":
    main()
