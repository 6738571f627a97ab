"""What Ray and the tracker cost: the same real trials in plain processes and through Ray Tune and MLflow, side by side.

    python benchmarks/overhead.py

Both ways train the same row (``tiny/static-dnw`` on digits) with one trial per core at a time; the plain way runs
before and after the other, so that drift of the machine shows. The report gives the cost once per command, and what
each trial pays: the pause between two trials of a slot, the slow-down of an epoch (medians), and the rest of a
trial's longer time (the tracker writing while it trains). A 2-minute trial pays the pause, the rest, and 120 s times
the slow-down; that must stay under 5 %. Exit code 1 if it does not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from dnw_core.config.base import fingerprint
from dnw_core.config.execution import Execution
from dnw_core.record import HISTORY_FILE, TrialRecord
from dnw_core.task import Hooks, TrialTask
from pipelines.schedule import run as schedule
from pipelines.spec import Resources, TrialSpec
from pipelines.store.folder import Store
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.tracker import Tracker
from pipelines.trial.run import run_spec
from tune_configs import load_tables

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the workers find this module by its name

TRAIN = "benchmarks.overhead:timed_trial"
TRIAL_SECONDS = 120.0
LIMIT_PERCENT = 5.0


@dataclass(frozen=True)
class Measured:
    """One way of running the trials. All in seconds."""

    before: float  # from the call to the first trial's first step
    after: float  # from the last trial's end to the return
    trial: float  # mean of a trial's own time
    epoch: float  # median
    pause: float  # between two trials of a slot


def timed_trial(task: TrialTask, hooks: Hooks) -> TrialRecord:
    """Train as ever, and note when it began and ended (the record's own times are whole seconds)."""
    from dnw_core.training import run_trial

    begun = time.time()
    record = run_trial(task, hooks)
    (task.folder.parent / f"{record.seed}.times").write_text(json.dumps([begun, time.time()]))
    return record


def make_specs(results: Path, row: str, seeds: int, epochs: int) -> list[TrialSpec]:
    """Return the trials; they count as ``short``, so that each gets a fresh process as a real one does."""
    recipe = load_tables()["tiny"].rows[row].recipe_at("smoke").with_epochs(epochs)
    return [
        TrialSpec(
            table="tiny",
            row=row,
            seed=seed,
            scale="short",
            fingerprint=fingerprint(recipe),
            recipe=recipe,
            execution=Execution(threads=1),
            resources=Resources(cpus=1.0),
            results_dir=results,
        )
        for seed in range(seeds)
    ]


def run_slot(specs: Sequence[TrialSpec]) -> None:
    """Train trials one after another, as a plain process does."""
    for spec in specs:
        run_spec(spec, train=TRAIN)


def run_plain(specs: Sequence[TrialSpec], slots: int) -> None:
    """Train in ``slots`` plain processes."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run_slot, args=(specs[slot::slots],)) for slot in range(slots)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def run_scheduled(specs: Sequence[TrialSpec], store: Store) -> None:
    """Train as the command does: Ray Tune, the tracker beside it, and brought up to date at the end."""
    tracker = Tracker(None, store.results_dir)
    rows = [
        {"table": spec.table, "row": spec.row, "fingerprint": spec.fingerprint, "scale": spec.scale}
        | {"seeds": [one.seed for one in specs]}
        for spec in specs[:1]
    ]
    with BackgroundSync(tracker, rows) as sync:
        outcome = schedule.run_schedule(specs, store=store, on_finished=sync.finished, train=TRAIN)
    error = tracker.sync(rows).error
    assert outcome.done == len(specs), f"not all trials were done: {outcome}"
    assert error is None, f"the tracker failed: {error}"


def measure(specs: Sequence[TrialSpec], store: Store, slots: int, begun: float, ended: float) -> Measured:
    """Work out the times from the trials' own records."""
    epochs: list[float] = []
    spans: list[tuple[float, float]] = []
    for spec in specs:
        assert store.state(spec).kind == "done", f"{spec.trial_id} is not done"
        start, end = json.loads((store.folder(spec).parent / f"{spec.seed}.times").read_text())
        spans.append((start, end))
        epochs += pq.read_table(store.folder(spec) / HISTORY_FILE, partitioning=None)["seconds"].to_pylist()
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    trial = statistics.mean(end - start for start, end in spans)
    rounds = len(specs) // slots
    return Measured(
        before=first - begun,
        after=ended - last,
        trial=trial,
        epoch=statistics.median(epochs),
        pause=(last - first - rounds * trial) / (rounds - 1),
    )


def main() -> int:
    """Run both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", default="static-dnw", help="row of table tiny (default: static-dnw)")
    parser.add_argument("--rounds", type=int, default=3, help="trials a slot, one after another (default: 3)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a trial, roughly (default: 8)")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: the pause is between two trials")
    os.environ["OMP_NUM_THREADS"] = "1"
    slots = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="dnw-overhead-") as folder:
        warm = Store.open(Path(folder) / "warm", create=True)
        run_plain(make_specs(warm.results_dir, options.row, slots, 2), slots)  # also fills the data and disk caches
        seconds = statistics.median(stored.record.train_seconds for stored in warm.records())
        epochs = max(2, round(options.seconds / (seconds / 2)))

        measured: dict[str, Measured] = {}
        for way in ("plain", "Ray + MLflow", "plain again"):
            store = Store.open(Path(folder) / way.replace(" ", "-"), create=True)
            specs = make_specs(store.results_dir, options.row, slots * options.rounds, epochs)
            begun = time.time()
            run_scheduled(specs, store) if "Ray" in way else run_plain(specs, slots)
            measured[way] = measure(specs, store, slots, begun, time.time())
    first, scheduled, second = measured.values()
    plain = Measured(*(statistics.mean(pair) for pair in zip(astuple(first), astuple(second), strict=True)))
    print(f"{slots} slots, {options.rounds} trials each, {epochs} epochs a trial, row tiny/{options.row}, seconds:\n")
    print(f"{'':30}" + "".join(f"{way:>14}" for way in measured) + f"{'difference':>14}")
    for name, text in (
        ("before", "once: before the first trial"),
        ("after", "once: after the last trial"),
        ("pause", "pause between two trials"),
        ("epoch", "an epoch (median)"),
        ("trial", "a trial (mean)"),
    ):
        values = [getattr(one, name) for one in measured.values()]
        print(
            f"{text:30}" + "".join(f"{value:14.3f}" for value in values) + f"{values[1] - getattr(plain, name):14.3f}"
        )
    slower = max(0.0, scheduled.epoch / plain.epoch - 1)
    rest = max(0.0, scheduled.trial - plain.trial - slower * plain.trial)
    pause = max(0.0, scheduled.pause - plain.pause)
    percent = 100 * (pause + rest) / TRIAL_SECONDS + 100 * slower
    print(
        f"\na {TRIAL_SECONDS:.0f} s trial pays {pause:.2f} s between trials, {rest:.2f} s while it trains, "
        f"and {100 * slower:.2f} % slower epochs: {percent:.2f} % (limit {LIMIT_PERCENT:g} %)"
    )
    return 0 if percent < LIMIT_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
