"""Ten thousand trials on a thousand GPUs, simulated: ``python benchmarks/makespan.py``.

The trials are those of all tables at paper scale, with as many seeds as make up the number and the durations that the
planner estimates. The real queue schedules them against a simulated clock: no Ray, nothing is trained. Each start takes
a fresh process some seconds, and the driver, which does one thing at a time, a few milliseconds. The order of a run
(longest first) is compared with a random one. The least possible time is the larger of the GPU hours divided by the
GPUs and the longest chain of trials that wait for each other.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.plan.placement import Placement
from pipelines.plan.planner import Plan, make_plan, plan_rows
from pipelines.plan.rows import select_rows
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.run import estimates, longest_first
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from tune_configs import load_tables

CPUS_A_GPU = 16
START_SECONDS = 4.0
DRIVER_SECONDS = 0.03


def make_specs(trials: int, folder: Path) -> tuple[list[TrialSpec], Plan]:
    """Return so many trials of all rows at paper scale on GPUs, and the plan that they come from."""
    tables = load_tables()
    rows = [row for row in select_rows(tables) if row.not_reproducible is None]
    seeds = tuple(range(-(-trials // len(rows))))
    planned = plan_rows(tables, rows, "paper", seeds=seeds)
    plan = make_plan(planned, "paper", Store.open(folder), Placement(device="cuda"), check_data=False)
    specs = [trial.spec for trial in plan.to_run()]
    # the last seeds are left out, all rows of a seed together, so that no child loses its parent
    return sorted(specs, key=lambda spec: spec.seed)[:trials], plan


def simulate(specs: Sequence[TrialSpec], seconds: Mapping[tuple[str, str], float], gpus: int) -> tuple[float, float]:
    """Return the seconds until the last trial has ended, and the share of the GPUs' time in which they trained."""
    queue = TrialQueue(specs, lambda: (float(gpus * CPUS_A_GPU), float(gpus)))
    free, now, busy = float(gpus), 0.0, 0.0
    ends: list[tuple[float, str, float]] = []
    given: list[TrialSpec] = []  # by the queue, first come, first served, as Tune does it
    while not queue.empty:
        while (spec := queue.next()) is not None:
            given.append(spec)
            if spec.resources.gpus > free:
                break
            while given and given[0].resources.gpus <= free + 1e-6:
                free = _start(given.pop(0), queue, ends, now, seconds, free)
                now += DRIVER_SECONDS
        while given and given[0].resources.gpus <= free + 1e-6:
            free = _start(given.pop(0), queue, ends, now, seconds, free)
            now += DRIVER_SECONDS
        ended, trial_id, share = heapq.heappop(ends)
        now, free = max(now, ended), free + share
        queue.ended(trial_id, "done")
    for spec in specs:
        busy += seconds[spec.table, spec.row] * spec.resources.gpus
    return now, busy / (now * gpus)


def _start(
    spec: TrialSpec,
    queue: TrialQueue,
    ends: list[tuple[float, str, float]],
    now: float,
    seconds: Mapping[tuple[str, str], float],
    free: float,
) -> float:
    """Start a trial and return what is left free."""
    queue.started(spec.trial_id)
    end = now + START_SECONDS + seconds[spec.table, spec.row]
    heapq.heappush(ends, (end, spec.trial_id, spec.resources.gpus))
    return free - spec.resources.gpus


def least(specs: Sequence[TrialSpec], seconds: Mapping[tuple[str, str], float], gpus: int) -> float:
    """Return the seconds that no order can undercut."""
    by_id = {spec.trial_id: spec for spec in specs}

    def chain(spec: TrialSpec | None) -> float:
        return 0.0 if spec is None else seconds[spec.table, spec.row] + chain(by_id.get(spec.parent_id or ""))

    work = sum(seconds[spec.table, spec.row] * spec.resources.gpus for spec in specs)
    return max(work / gpus, max(chain(spec) for spec in specs))


def main() -> int:
    """Simulate both orders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--gpus", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        specs, plan = make_specs(options.trials, Path(folder))
    seconds = estimates(plan)
    lengths = sorted(seconds[spec.table, spec.row] / 3600 for spec in specs)
    bound = least(specs, seconds, options.gpus)
    print(
        f"{len(specs)} trials on {options.gpus} GPUs; hours a trial: shortest {lengths[0]:.2f}, median "
        f"{lengths[len(lengths) // 2]:.2f}, longest {lengths[-1]:.1f}; least possible {bound / 3600:.2f} h"
    )
    shuffled = random.Random(0).sample(specs, len(specs))  # noqa: S311 - no secret
    for name, order in (("longest first", longest_first(specs, seconds)), ("random", shuffled)):
        begun = time.process_time()
        makespan, used = simulate(order, seconds, options.gpus)
        cost = 1000 * (time.process_time() - begun) / len(specs)
        print(
            f"{name:14} {makespan / 3600:7.2f} h, {makespan / bound:.3f} of the least, GPUs used {100 * used:.1f} %, "
            f"{cost:.2f} ms a trial for the queue"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
