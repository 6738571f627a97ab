"""A thread of the driver that has each trial mirrored soon after it has ended."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.spec import TrialSpec
from pipelines.tracking.process import TrackerProcess
from pipelines.tracking.tracker import Tracker

_PAUSE_SECONDS = 2.0  # several trials that end together are written together
_AGAIN_SECONDS = 60.0  # after a failure


class BackgroundSync:
    """Mirrors trials as they end. Use as a context; ``finished`` returns at once and never raises.

    Args:
        tracker: the tracker.
        rows: all rows of the run, as for ``Tracker.sync``.
        warn: says one line; by default on standard error.
        limit: seconds to wait for the last sync.
    """

    def __init__(
        self,
        tracker: Tracker | TrackerProcess,
        rows: Sequence[Mapping[str, Any]],
        *,
        warn: Callable[[str], None] | None = None,
        limit: float = 20.0,
    ) -> None:
        self._tracker = tracker
        self._rows = {(row["table"], row["row"], row["fingerprint"]): row for row in rows}
        self._warn = warn or (lambda text: print(text, file=sys.stderr, flush=True))
        self._limit = limit
        self._waiting: set[tuple[str, str, str]] = set()
        self._condition = threading.Condition()
        self._closing = False
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)

    def __enter__(self) -> BackgroundSync:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def finished(self, spec: TrialSpec) -> None:
        """Record that a trial has ended."""
        with self._condition:
            self._waiting.add((spec.table, spec.row, spec.fingerprint))
            self._condition.notify()

    def close(self) -> None:
        """Write the rest, within the limit."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(self._limit)
        if self._thread.is_alive():
            self._say(f"it took longer than {self._limit:.0f} s")

    def _work(self) -> None:
        self._tracker.prepare()  # while Ray starts, rather than beside the first trials
        again_at = 0.0
        while True:
            with self._condition:
                while not self._closing and (not self._waiting or time.monotonic() < again_at):
                    self._condition.wait(max(0.1, again_at - time.monotonic()) if self._waiting else None)
                closing = self._closing
                if not closing:
                    closing = self._condition.wait_for(lambda: self._closing, _PAUSE_SECONDS)
                keys, self._waiting = self._waiting, set()
            rows = [self._rows[key] for key in sorted(keys) if key in self._rows]
            error = self._tracker.sync(rows).error if rows else None
            if error is not None:
                self._say(error)
                again_at = time.monotonic() + _AGAIN_SECONDS
                with self._condition:
                    self._waiting |= keys
            if closing:
                return

    def _say(self, error: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"warning: the tracker {self._tracker} is behind ({error}); no result is lost, "
                "python pipelines/sync_mlflow.py brings it up to date"
            )
