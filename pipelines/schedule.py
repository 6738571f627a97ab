"""Ray Tune over ``run_spec``: which trial runs where and when. Nothing else is Tune's.

The store is the truth. Each call runs a fresh Tune experiment over the trials it is given and then recounts from
the store: Tune's own restore ignores rows that were added or changed, and its result says "terminated" of trials
that were stopped, that reported nothing, or whose loss was not finite.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dnw_core.errors import DataMissing
from pipelines.depot import Depot, SharedFolder
from pipelines.live_table import Display, Show, make_display
from pipelines.planner import Plan
from pipelines.preflight import missing_line
from pipelines.progress import Progress, RowKey
from pipelines.ray_cluster import connect, is_loopback
from pipelines.ray_environment import environment
from pipelines.ray_nodes import across_at_once, check_nodes, check_resources, living_nodes
from pipelines.spec import TrialSpec
from pipelines.stop_request import StopRequest, stop_request
from pipelines.store import Store
from pipelines.trial import TRAIN, record_failure
from pipelines.trial_queue import Room, TrialQueue
from pipelines.worker_lines import worker_lines

_ROOM_SECONDS = 5.0
# Tune keeps one trial pending for a searcher that sets no limit, which would start trials one after another
_QUEUE_LIMITS = {"TUNE_MAX_PENDING_TRIALS_PG": "1000000"}


@dataclass(frozen=True)
class ScheduleOutcome:
    """How the given trials stand in the store after the run."""

    done: int
    failed: int
    left: int  # neither: interrupted, never started, or blocked by a parent that failed
    interrupted: bool
    # data sets that no node of the cluster has, and why
    missing: Mapping[str, str] = field(default_factory=dict, repr=False)


def run(
    specs: Sequence[TrialSpec],
    *,
    store: Store,
    cluster: str | None = None,
    show: Show = "auto",
    plan: Plan | None = None,
    on_finished: Callable[[TrialSpec], None] | None = None,
    train: str = TRAIN,
) -> ScheduleOutcome:
    """Run the trials, each on the resources it asks for, and return how they stand in the store.

    Args:
        specs: the trials that are missing.
        store: the open store they are written to; the caller holds its lock.
        cluster: None for this machine, else the address of a running Ray cluster (or ``auto``).
        show: ``auto`` is a live table in a terminal and plain lines elsewhere.
        plan: where the trials come from: tells which rows take longest (they start first) and what is done already.
        on_finished: called in the driver with each trial that ended; it must return at once and not raise.
        train: the function that trains, as ``module:name``.

    Raises:
        UserError: if the cluster cannot be used, or a trial fits on none of its machines.
    """
    seconds = estimates(plan)
    ordered = longest_first(specs, seconds)
    if not ordered:
        return ScheduleOutcome(0, 0, 0, interrupted=False)
    progress = Progress(ordered, done_before(plan, specs), seconds)
    display = make_display(progress, show)
    results_dir = ordered[0].results_dir

    def say() -> None:
        display.note("stopping: the trials write their checkpoints (Ctrl-C again ends at once)")

    errors: dict[str, str] = {}
    with stop_request(results_dir, say) as stop, stop.on_signals():
        with connect(cluster) as folder:
            ordered, missing = check_machines(ordered, cluster, stop.folder, display)
            with stop.on_signals(), display:  # again: ray.init sets a handler of its own for SIGTERM
                errors = _fit(ordered, progress, display, stop, folder, on_finished, train, SharedFolder(stop.file))
        return replace(_recount(store, ordered, errors, interrupted=stop.requested), missing=missing)


def estimates(plan: Plan | None) -> dict[RowKey, float]:
    """Return the estimated seconds of one whole trial of each row that will be run."""
    return {
        (trial.spec.table, trial.spec.row): trial.estimated_seconds * trial.spec.recipe.epochs / trial.epochs_left
        for trial in (plan.to_run() if plan else ())
        if trial.epochs_left
    }


def done_before(plan: Plan | None, specs: Sequence[TrialSpec]) -> dict[RowKey, int]:
    """Return how many seeds of each row were done before, for the display."""
    rows = {(spec.table, spec.row) for spec in specs}
    done = [trial.spec for trial in (plan.trials if plan else ()) if trial.state == "done" and not trial.runs]
    return dict(Counter(key for spec in done if (key := (spec.table, spec.row)) in rows))


def longest_first(specs: Sequence[TrialSpec], seconds: Mapping[RowKey, float]) -> list[TrialSpec]:
    """Return the trials, longest row first and seeds in turn, so that no long one is left for the end.

    A row counts with the longest of the rows that wait for it. Rows without an estimate come first, by their epochs.
    """
    children: dict[RowKey, set[RowKey]] = {}
    for spec in specs:
        if spec.parent is not None:
            children.setdefault((spec.parent.table, spec.parent.row), set()).add((spec.table, spec.row))
    epochs = {(spec.table, spec.row): spec.recipe.epochs for spec in specs}

    @functools.cache
    def chain(row: RowKey) -> tuple[float, int]:
        after = [chain(child) for child in children.get(row, ())]
        longest = max((there for there, _ in after), default=0.0)
        return seconds.get(row, float("inf")) + longest, epochs[row] + max((there for _, there in after), default=0)

    def length(spec: TrialSpec) -> tuple[float, int, str, str]:
        estimate, steps = chain((spec.table, spec.row))
        return -estimate, -steps, spec.table, spec.row

    rows = sorted(specs, key=length)
    return [spec for _, row in itertools.groupby(rows, key=length) for spec in sorted(row, key=lambda one: one.seed)]


def _room() -> Callable[[], Room]:
    """Return a function that tells the CPUs and GPUs of all machines, asked of Ray now and then: nodes may join."""
    import ray

    last: tuple[float, Room] | None = None

    def room() -> Room:
        nonlocal last
        if last is None or time.monotonic() - last[0] > _ROOM_SECONDS:
            there = ray.cluster_resources()
            last = time.monotonic(), (float(there.get("CPU", 0.0)), float(there.get("GPU", 0.0)))
        return last[1]

    return room


def check_machines(
    specs: Sequence[TrialSpec], cluster: str | None, folder: Path, display: Display
) -> tuple[list[TrialSpec], dict[str, str]]:
    """Return the trials, each with the way it goes on the machines of the connected Ray, and what data no node has.

    Trials without data are left out. Says so, says how trials with several workers go, and warns of a cluster without
    authentication.

    Raises:
        UserError: if a trial fits nowhere, a node lacks code, folders or data that others have, or none has its data.
    """
    import ray

    nodes = living_nodes(ray.nodes())
    placed = check_resources(specs, nodes)
    for line in worker_lines(placed):
        display.note(line)
    if cluster is None:
        return placed, {}
    unguarded, missing = check_nodes(placed, nodes, folder)
    address = str(ray.get_runtime_context().gcs_address)
    if unguarded and not is_loopback(address):
        display.note(
            f"warning: the Ray cluster at {address} runs without token authentication: whoever reaches its ports can "
            "run code on it; start every node with RAY_AUTH_MODE=token"
        )
    return leave_out(placed, missing, display.note), missing


def leave_out(specs: Sequence[TrialSpec], missing: Mapping[str, str], say: Callable[[str], None]) -> list[TrialSpec]:
    """Return the trials whose data are there.

    Raises:
        DataMissing: if none is left.
    """
    left = [spec for spec in specs if spec.recipe.data.dataset not in missing]
    for dataset, why in missing.items():
        rows = {(spec.table, spec.row) for spec in specs if spec.recipe.data.dataset == dataset}
        if not left:
            raise DataMissing(why)
        say(missing_line(len(rows), why))
    return left


def _fit(
    specs: Sequence[TrialSpec],
    progress: Progress,
    display: Display,
    stop: StopRequest,
    folder: Path,
    on_finished: Callable[[TrialSpec], None] | None,
    train: str,
    depot: Depot,
) -> dict[str, str]:
    """Run the experiment; return the reasons of trials that Tune gave up, by trial id."""
    import ray
    from ray import tune

    from pipelines.tune_driver import QueueSearcher, Watcher
    from pipelines.tune_setup import run_config, tune_config, with_resources
    from pipelines.tune_worker import make_trainable

    queue = TrialQueue(specs, _room(), across_at_once(specs, living_nodes(ray.nodes())))
    watcher = Watcher(progress, display, on_finished, queue)
    tuner = tune.Tuner(
        with_resources(make_trainable(depot, train), specs),
        # num_samples: until the searcher says that it has finished
        tune_config=tune_config(specs, search_alg=QueueSearcher(queue, stop), num_samples=-1),
        run_config=run_config("trials", folder, stop, progress, watcher),
    )
    if stop.requested:
        return {}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it logs whole trials for what is said in a line here
    try:
        with environment(_QUEUE_LIMITS):
            tuner.fit()
    except KeyboardInterrupt:  # the second one
        stop.request()
    return watcher.errors


def _recount(
    store: Store, specs: Sequence[TrialSpec], errors: Mapping[str, str], *, interrupted: bool
) -> ScheduleOutcome:
    """Count from the store; a trial that was given up without a record of its own gets one."""
    done = failed = 0
    for spec in specs:
        kind = store.state(spec).kind
        if kind not in ("done", "failed") and spec.trial_id in errors:
            with contextlib.suppress(OSError):  # a full disk: it stays unfinished
                record_failure(store, spec, errors[spec.trial_id])
                kind = "failed"
        done += kind == "done"
        failed += kind == "failed"
    return ScheduleOutcome(done, failed, len(specs) - done - failed, interrupted=interrupted)
