"""How the process that trains reaches the results folder, wherever that lies.

Where all machines see the folder itself, a trial is trained in it (``SharedFolder``). Elsewhere a trial is trained in
a folder of its own machine; a depot brings what is there of it before it starts, carries its checkpoints back while it
runs, and commits it at the end. ``run_spec`` and everything below it know of one folder only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from pipelines.spec import TrialSpec
from pipelines.stop_request import StopWatch


class Site(NamedTuple):
    """Where a trial is trained, in the process that trains it."""

    spec: TrialSpec  # its ``results_dir`` is a folder that this machine sees
    should_stop: Callable[[], bool]  # whether somebody asked all trials to stop


class Depot(Protocol):
    """Goes to the trial's process through pickle."""

    @property
    def stop_file(self) -> Path | None:
        """The file that asks trials to stop, where every machine sees it; else None."""

    def open(self, spec: TrialSpec) -> AbstractContextManager[Site]:
        """Have the trial at this machine for the block, and have what came of it in the store after it.

        However the block ends: a finished trial is committed, of any other one checkpoint, progress, log and the
        record of a failure are in the store.
        """


class SharedFolder:
    """The results folder is on a disk that every machine sees under the same path.

    Args:
        stop_file: asks all trials to stop.
    """

    def __init__(self, stop_file: Path) -> None:
        self._stop_file = stop_file

    @property
    def stop_file(self) -> Path:
        """The file that asks trials to stop."""
        return self._stop_file

    @contextlib.contextmanager
    def open(self, spec: TrialSpec) -> Iterator[Site]:
        """Train where the results lie."""
        yield Site(spec, StopWatch(self._stop_file))
