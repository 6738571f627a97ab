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
    sys.path[:] = [str(here.parents[1]), *sys.path]

    from dnw_core.errors import UserError
    from pipelines import cli, schedule
    from pipelines.progress import Progress
    from pipelines.spec import TrialSpec
    from pipelines.stop_request import stop_request
    from pipelines.store import Store

    def run(
        specs: Sequence[TrialSpec], *, store: Store, on_begun: Callable[[Progress], None], **_: Any
    ) -> schedule.ScheduleOutcome:
        """See ``pipelines.schedule.run``."""
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
    stub("pipelines.tracker_beside", TrackerBeside=lambda *_: tracker)
    sync = contextlib.nullcontext(SimpleNamespace(finished=None))
    stub("pipelines.tracker_background", BackgroundSync=lambda *_: sync)
    stub("pipelines.costs_kept", report_costs=lambda *_: None)
    stub("reports", build_report=lambda folder, *_, **__: SimpleNamespace(markdown=folder / "results.md"))
    cli._OURSELVES = (sys.executable, str(here))
    schedule.run = run  # type: ignore[assignment]
    sys.exit(cli.main())
