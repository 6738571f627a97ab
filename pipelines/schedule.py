"""Ray Tune over ``run_spec``: which trial runs where and when. Nothing else is Tune's.

The store is the truth. Each call runs a fresh Tune experiment over the trials it is given and then recounts from
the store: Tune's own restore ignores rows that were added or changed, and its result says "terminated" of trials
that were stopped, that reported nothing, or whose loss was not finite.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.live_table import Display, Show, make_display
from pipelines.planner import Plan
from pipelines.progress import Progress, RowKey
from pipelines.ray_cluster import connect, is_loopback
from pipelines.ray_nodes import check_nodes, check_resources, living_nodes
from pipelines.spec import TrialSpec
from pipelines.stop_request import StopRequest, stop_request
from pipelines.store import Store
from pipelines.trial import TRAIN, record_failure

MAX_DEATHS = 3
"""Times a trial is started again after its process died; what a trial raises itself is recorded, not repeated."""

GRACE_SECONDS = 10.0
"""How long a trial may take to leave a checkpoint once it was asked to stop."""


@dataclass(frozen=True)
class ScheduleOutcome:
    """How the given trials stand in the store after the run."""

    done: int
    failed: int
    left: int  # neither: interrupted or never started
    interrupted: bool


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
            _check_machines(ordered, cluster, stop.folder, display)
            with stop.on_signals(), display:  # again: ray.init sets a handler of its own for SIGTERM
                errors = _fit(ordered, progress, display, stop, folder, on_finished, train)
        return _recount(store, ordered, errors, interrupted=stop.requested)


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

    Rows without an estimate come first, by their epochs.
    """

    def length(spec: TrialSpec) -> tuple[float, int, str, str]:
        estimate = seconds.get((spec.table, spec.row), float("inf"))
        return -estimate, -spec.recipe.epochs, spec.table, spec.row

    rows = sorted(specs, key=length)
    return [spec for _, row in itertools.groupby(rows, key=length) for spec in sorted(row, key=lambda one: one.seed)]


def _check_machines(specs: Sequence[TrialSpec], cluster: str | None, folder: Path, display: Display) -> None:
    import ray

    nodes = living_nodes(ray.nodes())
    check_resources(specs, nodes)
    if cluster is None:
        return
    unguarded = check_nodes(specs, nodes, folder)
    address = str(ray.get_runtime_context().gcs_address)
    if unguarded and not is_loopback(address):
        display.note(
            f"warning: the Ray cluster at {address} runs without token authentication: whoever reaches its ports can "
            "run code on it; start every node with RAY_AUTH_MODE=token"
        )


def _fit(
    specs: Sequence[TrialSpec],
    progress: Progress,
    display: Display,
    stop: StopRequest,
    folder: Path,
    on_finished: Callable[[TrialSpec], None] | None,
    train: str,
) -> dict[str, str]:
    """Run the experiment; return the reasons of trials that Tune gave up, by trial id."""
    from ray import tune

    from pipelines.tune_driver import GraceStopper, Watcher
    from pipelines.tune_worker import KEY, make_trainable

    asked = {spec.model_dump_json(): spec.resources for spec in specs}

    def resources(config: dict[str, Any]) -> Any:
        wanted = asked[config[KEY]]
        bundle = {"CPU": wanted.cpus} | ({"GPU": wanted.gpus} if wanted.gpus else {})
        return tune.PlacementGroupFactory([bundle])

    watcher = Watcher(progress, display, on_finished)
    # A fresh process costs some 4 s (torch, Ray). On a CPU a trial sets all that it depends on (threads, precision,
    # random states), so one process serves many trials, to the same bits (tests/test_command_real.py). On a GPU a
    # process would keep the memory and the devices of its first trial.
    reuse = not any(spec.resources.gpus for spec in specs)
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(stop.file, train), resources),
        param_space={KEY: tune.grid_search(list(asked))},
        tune_config=tune.TuneConfig(
            reuse_actors=reuse,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(folder / "tune"),
            verbose=0,
            stop=GraceStopper(stop, progress, GRACE_SECONDS),
            failure_config=tune.FailureConfig(max_failures=MAX_DEATHS),
            callbacks=[watcher],
        ),
    )
    if stop.requested:
        return {}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it logs whole trials for what is said in a line here
    try:
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
