"""The command without Ray, MLflow and drawing: trials are finished in milliseconds, the report is a list of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.driver.lock import lock_owner
from pipelines.schedule import run as schedule
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from pipelines.trial.parents import TrialBlockedError, finished_parent
from support.stubs.store import finish


class StubSchedule:
    """Stands in for Ray: finishes the trials, or fails those of rows that are named."""

    def __init__(self) -> None:
        self.ran: list[TrialSpec] = []
        self.fails: set[str] = set()
        self.interrupt_after: int | None = None

    def run(self, specs: Sequence[TrialSpec], *, store: Store, **_: Any) -> schedule.ScheduleOutcome:
        """See ``pipelines.schedule.run_schedule``."""
        assert lock_owner(store.results_dir) is not None  # nobody trains without the lock
        for number, spec in enumerate(specs):
            if number == self.interrupt_after:
                return schedule.ScheduleOutcome(0, 0, 0, interrupted=True)
            try:
                finished_parent(store, spec)
            except TrialBlockedError:
                continue
            self.ran.append(spec)
            if spec.row in self.fails:
                store.record_failure(spec, "the loss is nan at epoch 1")
            else:
                finish(store, spec)
        return schedule.ScheduleOutcome(0, 0, 0, interrupted=False)


def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's tracker do nothing; its process is not started."""
    from pipelines.tracking.process import TrackerProcess

    monkeypatch.setattr(TrackerProcess, "prepare", lambda self: None)
    monkeypatch.setattr(TrackerProcess, "sync", lambda self, rows: SimpleNamespace(error=None))


def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave MLflow, the counting of costs and the report's drawing out; the report is a list of rows."""
    import pipelines.counts
    import reports

    no_tracker(monkeypatch)

    def report(results_dir: Path, rows: list[dict[str, Any]], *, command: str, **_: Any) -> SimpleNamespace:
        path = results_dir / "results.md"
        path.write_text(f"{command}\n" + "\n".join(row["row"] for row in rows))
        return SimpleNamespace(markdown=path)

    monkeypatch.setattr(reports, "build_report", report)
    monkeypatch.setattr(pipelines.counts, "report_costs", lambda *_: None)


def quick_command(monkeypatch: pytest.MonkeyPatch) -> StubSchedule:
    """Replace Ray, MLflow and the report's drawing by quick ones."""
    import pipelines.schedule

    stub = StubSchedule()
    monkeypatch.setattr(pipelines.schedule, "run_schedule", stub.run)
    quick_report(monkeypatch)
    return stub
