"""The command with a scheduling that trains nothing: it waits to be stopped, or for the file ``finish`` beside results.

Run as a script; it detaches itself, not ``reproduce_all.py``. Tracker and report are stubs, so nothing heavy is loaded.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def stub(name: str, **content: Any) -> None:
    """Stand in for a module."""
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


if __name__ == "__main__":
    here = Path(__file__).resolve()
    sys.path[:] = [str(here.parents[3]), *sys.path]

    import pipelines.counts
    import pipelines.schedule
    import pipelines.tracking
    from dnw_core.errors import UserError
    from pipelines.commands import reproduce_all as cli
    from pipelines.driver.progress import Progress
    from pipelines.driver.stopping import stop_request
    from pipelines.schedule import run as schedule
    from pipelines.spec import TrialSpec
    from pipelines.store.folder import Store

    def run(
        specs: Sequence[TrialSpec], *, store: Store, on_begun: Callable[[Progress], None], **_: Any
    ) -> schedule.ScheduleOutcome:
        """See ``pipelines.schedule.run_schedule``."""
        beside = store.results_dir.parent
        if (beside / "refuse").exists():
            raise UserError("no Ray cluster answers at nowhere:1")
        if (beside / "slow").exists():
            time.sleep(60)
        with stop_request(store.results_dir, lambda: print("stopping", flush=True)) as stop, stop.on_signals():
            on_begun(Progress(specs))
            print("training", flush=True)
            print("a warning", file=sys.stderr, flush=True)
            until = time.monotonic() + 120
            while not stop.requested and not (beside / "finish").exists() and time.monotonic() < until:
                time.sleep(0.02)
        return schedule.ScheduleOutcome(0, 0, len(specs), interrupted=stop.requested)

    tracker = contextlib.nullcontext(SimpleNamespace(sync=lambda rows: SimpleNamespace(error=None)))
    pipelines.tracking.TrackerProcess = lambda *_: tracker  # type: ignore[assignment,misc]
    sync = contextlib.nullcontext(SimpleNamespace(finished=None))
    pipelines.tracking.BackgroundSync = lambda *_: sync  # type: ignore[assignment,misc]
    pipelines.counts.report_costs = lambda *_: None  # type: ignore[assignment]
    stub("reports", build_report=lambda folder, *_, **__: SimpleNamespace(markdown=folder / "results.md"))
    cli._OURSELVES = (sys.executable, str(here))
    pipelines.schedule.run_schedule = run  # type: ignore[assignment]
    sys.exit(cli.main())
