"""How long what must be quick takes: loading digits, reading large results, a report, pictures, hand-overs.

    python benchmarks/waits.py

Each is measured several times. The median is shown beside its bound, in seconds of processor time or, where the disk
matters too, of wall time. Exit code 1 if one is over its bound. Results and wirings are those of the tests.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reports"))

import test_reports_raster
from support.stubs import reports_store
from support.stubs.specs import report_row, spec
from support.stubs.store import write_finished

from dnw_core.config.execution import Execution
from dnw_core.data import load_dataset
from dnw_core.files import sha256_of
from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from pipelines.store.folder import Store
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.tracker import SyncOutcome
from reports import build_report, wiring_picture

CHECKPOINT_BYTES = 48_000_000


class Wait(NamedTuple):
    """One thing that must be quick: ``prepare`` is given a folder and returns what is measured."""

    text: str
    bound: float  # seconds
    clock: Callable[[], float]
    prepare: Callable[[Path], Callable[[], object]]


def digits(folder: Path) -> Callable[[], object]:
    """A trial's images."""
    return lambda: load_dataset("digits", Execution())


def large_results(folder: Path) -> Callable[[], object]:
    """A look, as ``--status`` takes it, at trials that were hashed before; their checkpoints are holes in the disk."""
    store = Store.open(folder, create=True)
    specs = [spec(folder, seed=seed) for seed in range(60)]
    for one in specs:
        work = store.work_folder(one)
        record = write_finished(work, one)
        with (work / CHECKPOINT_FILE).open("r+b") as file:
            file.truncate(CHECKPOINT_BYTES)
        files = record.files | {CHECKPOINT_FILE: sha256_of(work / CHECKPOINT_FILE)}
        (work / RECORD_FILE).write_text(record.model_copy(update={"files": files}).model_dump_json(), "utf-8")
        store.commit(one)
    Store.open(folder, create=True).states(specs)

    def look() -> None:
        states = Store.open(folder, trust_unchanged=True).states(specs)
        assert all(state.kind == "done" for state in states)

    return look


def report(folder: Path) -> Callable[[], object]:
    """Ten rows of five seeds."""
    rows = [reports_store.row(f"row-{index}", epochs=60) for index in range(10)]
    numbers = np.arange(reports_store.KEPT, dtype=np.int32)
    for given in rows:
        for seed in range(5):
            reports_store.write_trial(folder, given, seed, 0.8, edges=(numbers % 800, numbers * 7 % 800))
    return lambda: build_report(folder, rows, scale="paper")


def picture(density: float) -> Callable[[Path], Callable[[], object]]:
    """Five blocks up to 3072 x 2816."""

    def prepare(folder: Path) -> Callable[[], object]:
        shapes = {f"block-{index}": shape for index, shape in enumerate(test_reports_raster.BLOCKS)}
        test_reports_raster.write(folder / "wiring.npz", shapes, density)
        return lambda: wiring_picture(folder / "wiring.npz", folder / "wiring.png", title="wiring")

    return prepare


class BusyTracker:
    """A tracker that does not come to an end."""

    def __init__(self) -> None:
        self.at_work = threading.Event()

    def prepare(self) -> None:
        """Nothing."""

    def sync(self, rows: Any) -> SyncOutcome:
        """Take longer than the measurement."""
        self.at_work.set()
        time.sleep(60)
        return SyncOutcome()


def hand_over(folder: Path) -> Callable[[], object]:
    """Tell a tracker that is at work of ten more trials."""
    tracker = BusyTracker()
    sync = BackgroundSync(tracker, [report_row(spec(folder, "a"))])  # type: ignore[arg-type]
    sync.__enter__()  # and no end: its thread goes with the process
    specs = [spec(folder, "a", seed) for seed in range(10)]
    sync.finished(specs[0])
    assert tracker.at_work.wait(60), "the tracker was not asked"

    def tell() -> None:
        for one in specs:
            sync.finished(one)

    return tell


WAITS = (
    Wait("loading the digits", 0.5, time.perf_counter, digits),
    Wait("--status of 60 trials with checkpoints of 48 MB", 0.7, time.perf_counter, large_results),
    Wait("the report of 10 rows of 5 seeds", 6.0, time.process_time, report),
    Wait("a picture of 500,000 edges", 3.0, time.process_time, picture(0.05)),
    Wait("a picture of 6,900,000 edges", 3.0, time.process_time, picture(0.6)),
    Wait("telling a busy tracker of ten trials", 0.1, time.perf_counter, hand_over),
)


def measure(wait: Wait, rounds: int) -> float:
    """Return the median of so many rounds, in seconds."""
    with tempfile.TemporaryDirectory(prefix="dnw-waits-") as folder:
        once = wait.prepare(Path(folder))
        seconds = []
        for _ in range(rounds):
            begun = wait.clock()
            once()
            seconds.append(wait.clock() - begun)
    return statistics.median(seconds)


def main() -> int:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    options = parser.parse_args()
    over = 0
    print(f"{'median, seconds':50}{'measured':>10}{'bound':>8}  of the")
    for wait in WAITS:
        seconds = measure(wait, options.rounds)
        over += seconds >= wait.bound
        of = "processor" if wait.clock is time.process_time else "clock"
        print(f"{wait.text:50}{seconds:10.3f}{wait.bound:8.1f}  {of}{'  OVER' if seconds >= wait.bound else ''}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
