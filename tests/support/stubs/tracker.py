"""Trackers for the tests of the tracker's process, which are loaded in that process by name."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.tracking.tracker import SyncOutcome


class QuickTracker:
    """Counts the rows, and says in ``skipped`` which process did."""

    def __init__(self, uri: str, results_dir: Path) -> None:
        self.results_dir = results_dir

    def prepare(self) -> None:
        """Do nothing."""

    def sync(self, rows: Sequence[Any]) -> SyncOutcome:
        """Answer at once."""
        return SyncOutcome(created=len(rows), skipped=[str(os.getpid())])


class BusyTracker(QuickTracker):
    """Works for a minute; the file ``busy`` holds its process's id then."""

    def sync(self, rows: Sequence[Any]) -> SyncOutcome:
        """Work."""
        (self.results_dir / "new").write_text(str(os.getpid()))
        (self.results_dir / "new").rename(self.results_dir / "busy")
        time.sleep(60)
        return SyncOutcome()
