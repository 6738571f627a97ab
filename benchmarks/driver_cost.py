"""What the driver itself costs: CPU time and memory for each trial, with trials that do nothing.

    python benchmarks/driver_cost.py --trials 100 1000 5000

Each number of trials runs in a fresh process through all that the command uses: the planner on real rows (and, where
they do not suffice, variants of them), Ray Tune, the store, the tracker beside it, the recount, and the report. Only
the training is replaced (``benchmarks/no_op.py``). The figures are the CPU seconds of the driver's process in each
phase, all its threads included, divided by the trials, and the memory that it holds. Those of the tracker's process are
shown beside them. Other load on the machine hardly affects CPU seconds; wall time is shown and proves nothing.

The cost of one more trial is the slope between two numbers of trials; loading Ray, MLflow and pandas is paid once.
Exit code 1 if at 1,000 trials (or the largest number that was asked for, below that) a trial costs more than 30 ms,
or the memory grows by 100 KB a trial or more between any two numbers.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.commands.reproduction import row_command
from pipelines.plan.data_checks import prepare_store
from pipelines.plan.placement import Placement
from pipelines.plan.planner import Plan, PlannedRow, make_plan, plan_rows
from pipelines.plan.reported_rows import report_rows
from pipelines.plan.rows import parse_overrides, select_rows
from pipelines.plan.trial_states import Mode
from pipelines.schedule import run as schedule
from pipelines.store.folder import Store
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.process import TrackerProcess
from tune_configs import Table, load_tables

TRAIN = "benchmarks.no_op:run_trial"
LIMIT_MS = 30.0
LIMIT_KB = 100.0
JUDGED_AT = 1000
SEEDS_A_ROW = 20
PHASES = ("plan", "schedule", "track", "recount", "report")  # track: what is left for the last sync


@dataclass
class Measured:
    """One run. CPU seconds by phase; memory in KB: before anything is planned, at the end, and the most there was."""

    trials: int
    rows: int
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    wall: float = 0.0
    memory_before: float = 0.0
    memory_after: float = 0.0
    memory_peak: float = 0.0
    beside: float = 0.0  # CPU seconds of the tracker's process

    @property
    def total(self) -> float:
        """CPU seconds of all phases."""
        return sum(self.cpu.values())

    @contextmanager
    def counting(self, phase: str) -> Iterator[None]:
        """Count the CPU seconds of the block to a phase, those of other threads too."""
        begun = time.process_time()
        yield
        self.cpu[phase] += time.process_time() - begun

    def ms(self, phase: str) -> float:
        """CPU milliseconds a trial in a phase."""
        return 1000 * self.cpu[phase] / self.trials


def choose_rows(tables: dict[str, Table], trials: int, seeds: int) -> list[PlannedRow]:
    """Return rows with so many trials together: those that need no other row, then variants of them."""
    rows = [row for row in select_rows(tables) if row.parent_row is None and row.not_reproducible is None]
    planned: list[PlannedRow] = []
    number = 0
    while seeds * len(planned) < trials:
        settings = parse_overrides([f"optimiser.learning_rate={0.1 + number / 1000}"] if number else [])
        planned += plan_rows(tables, rows, "smoke", seeds=tuple(range(seeds)), overrides=settings)
        number += 1
    return planned[: trials // seeds]


def run(trials: int, seeds: int, results: Path) -> Measured:
    """Run so many trials and return what it took."""
    tables = load_tables()
    rows = choose_rows(tables, trials, seeds)
    measured = Measured(trials, len(rows), memory_before=memory())
    begun = time.monotonic()
    with measured.counting("plan"):
        store = Store.open(results, create=True)
        plan = _plan(rows, store)
        entries = _entries(plan, tables, store)
        prepare_store(plan, store, print)
    specs = [trial.spec for trial in plan.to_run()]
    assert len(specs) == trials, f"{len(specs)} trials instead of {trials}"
    with TrackerProcess(None, results) as tracker:
        with measured.counting("schedule"), BackgroundSync(tracker, entries, limit=3600) as sync:
            outcome = schedule.run_schedule(specs, plan=plan, store=store, on_finished=sync.finished, train=TRAIN)
        assert outcome.done == trials, f"not all trials were done: {outcome}"
        with measured.counting("track"):
            synced = tracker.sync(entries)
        assert synced.error is None and not synced.skipped, f"the tracker is behind: {synced}"  # noqa: PT018
        with Path(f"/proc/{tracker.pid}/stat").open() as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        measured.beside = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    with measured.counting("recount"):
        after = _plan(plan.rows, store, recount=True)
    assert all(trial.state == "done" for trial in after.trials)
    with measured.counting("report"):
        from reports import build_report

        build_report(results, _entries(after, tables, store), scale="smoke", command="benchmarks/driver_cost.py")
    measured.wall = time.monotonic() - begun
    measured.memory_after = memory()
    measured.memory_peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return measured


def _plan(rows: Sequence[PlannedRow], store: Store, *, recount: bool = False) -> Plan:
    mode: Mode = "read-only" if recount else "cached"
    return make_plan(rows, "smoke", store, Placement(threads=1), mode=mode, check_data=False)


def _entries(plan: Plan, tables: dict[str, Table], store: Store) -> list[dict[str, Any]]:
    return report_rows(plan, tables, store, lambda row, seeds: row_command(row, seeds, "smoke"))


def memory() -> float:
    """Return what this process holds in memory, in KB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


def measure(trials: int, options: argparse.Namespace) -> Measured:
    """Run so many trials in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="dnw-driver-") as folder:
        target = Path(folder) / "measured.json"
        command = [sys.executable, __file__, "--one", str(trials), "--seeds", str(options.seeds), "--json", str(target)]
        command += ["--results-dir", folder] + (["--profile", options.profile] if options.profile else [])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Measured(**json.loads(target.read_text()))


def measure_here(options: argparse.Namespace) -> None:
    """Be that fresh process."""
    results = options.results_dir / "results"
    profile = cProfile.Profile() if options.profile else None
    measured = (
        run(options.one, options.seeds, results)
        if profile is None
        else profile.runcall(run, options.one, options.seeds, results)
    )
    if profile is not None:
        profile.dump_stats(options.profile)
    options.json.write_text(json.dumps(asdict(measured)))


def show(found: Sequence[Measured]) -> list[str]:
    """Return the tables: CPU milliseconds a trial by phase, and the cost and memory of one trial more."""
    lines = [
        f"{'trials':>7}{'rows':>6}"
        + "".join(f"{name:>10}" for name in (*PHASES, "all ms", "beside", "wall s", "MB", "peak MB"))
    ]
    for one in found:
        values = [one.ms(name) for name in PHASES] + [1000 * one.total / one.trials]
        values += [1000 * one.beside / one.trials, one.wall]
        values += [one.memory_after / 1024, one.memory_peak / 1024]
        lines.append(f"{one.trials:7}{one.rows:6}" + "".join(f"{value:10.1f}" for value in values))
    lines += ["", "one trial more:"]
    for first, second in itertools.pairwise(found):
        more = second.trials - first.trials
        values = [1000 * (second.cpu[name] - first.cpu[name]) / more for name in PHASES]
        lines.append(
            f"{first.trials:>6} to {second.trials}: {sum(values):.1f} ms ("
            + ", ".join(f"{name} {value:.1f}" for name, value in zip(PHASES, values, strict=True))
            + f"), {growth(first, second):.0f} KB"
        )
    return lines


def growth(first: Measured, second: Measured) -> float:
    """Return by how many KB a trial the memory grew: what is held at the end or the most there was, if that is more."""
    held, most = second.memory_after - first.memory_after, second.memory_peak - first.memory_peak
    return max(held, most) / (second.trials - first.trials)


def within_limits(found: Sequence[Measured]) -> bool:
    """Whether a trial costs and leaves behind as little as promised."""
    judged = max((one for one in found if one.trials <= JUDGED_AT), key=lambda one: one.trials, default=found[0])
    cheap = 1000 * judged.total / judged.trials <= LIMIT_MS
    return cheap and all(growth(first, second) < LIMIT_KB for first, second in itertools.pairwise(found))


def main() -> int:
    """Run each number of trials and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000], help="numbers of trials (100 1000)")
    parser.add_argument("--seeds", type=int, default=SEEDS_A_ROW, help=f"seeds of a row (default: {SEEDS_A_ROW})")
    parser.add_argument("--profile", help="also write a cProfile file of the driver's main thread (slows it down)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--results-dir", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if any(number < options.seeds or number % options.seeds for number in options.trials):
        parser.error(f"--trials: every number must be a multiple of the seeds of a row ({options.seeds})")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.one is not None:
        measure_here(options)
        return 0
    found = [measure(number, options) for number in sorted(options.trials)]
    print(
        "\n".join(["CPU milliseconds of the driver for each trial, by phase; memory that it holds:", "", *show(found)])
    )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 0 if within_limits(found) else 1


if __name__ == "__main__":
    sys.exit(main())
