"""The tracker in a process of its own, so that it takes no time and no memory from the driver.

Writing a trial into MLflow and drawing its wiring takes more of a processor than all that the driver does for it
(docs/scaling.md). In a thread that work would hold up the scheduling, and MLflow, matplotlib and their data would lie
in the driver's memory. The other process is asked over a pipe, one line a question, and ends when the pipe does,
however the driver ends. It may die at any time: the next sync starts another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.tracking.server import resolve_uri, without_password
from pipelines.tracking.tracker import SyncOutcome

_LEAVE_SECONDS = 5.0  # to end by itself


class TrackerBeside:
    """A ``Tracker`` at work in another process. Use as a context; that process is gone after it.

    Args:
        tracking_uri: where MLflow is; None is a SQLite file inside the results folder.
        results_dir: the results folder.

    Raises:
        UserError: if the address is of an unknown kind.
    """

    def __init__(self, tracking_uri: str | None, results_dir: Path) -> None:
        self.results_dir = results_dir
        self.uri = resolve_uri(tracking_uri, results_dir)
        self.cpu_seconds = 0.0  # of the process that works now
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return without_password(self.uri)

    def __enter__(self) -> TrackerBeside:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def prepare(self) -> None:
        """Start the process, which loads MLflow. Never raises: ``sync`` will tell."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._start()

    def sync(self, rows: Sequence[Mapping[str, Any]]) -> SyncOutcome:
        """Bring the rows' runs up to date with the store, as ``Tracker.sync``. Never raises."""
        with self._lock:
            try:
                return self._ask(rows)
            except (OSError, ValueError) as error:
                self._end()
                return SyncOutcome(error=f"its process is gone ({error})")

    def close(self) -> None:
        """End the process, also in the middle of its work: a later sync mends that."""
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:  # a sync that was waiting finds that it has no answer, first
            self._end()

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> SyncOutcome:
        process = self._process if self._process is not None and self._process.poll() is None else self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(list(rows)) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise ValueError(f"exit code {process.wait(_LEAVE_SECONDS)}")
        values = json.loads(answer)
        self.cpu_seconds = float(values.pop("cpu_seconds"))
        return SyncOutcome(**values)

    def _start(self) -> subprocess.Popen[str]:
        self._end()
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-m", "pipelines.tracking.process_main", str(self.results_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the driver's
        )
        self._process = process
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.uri) + "\n")  # by the pipe: it may hold a password
        process.stdin.flush()
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
