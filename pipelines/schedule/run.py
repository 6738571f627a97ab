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
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dnw_core.errors import UserError
from pipelines.cluster import (
    MOST_UNFIT,
    VisibilityProbe,
    across_at_once,
    check_machines,
    connect,
    future_nodes,
    living_nodes,
    ray_environment,
    room_of_all,
)
from pipelines.driver import (
    FAR_GRACE_SECONDS,
    GRACE_SECONDS,
    MAX_DEATHS,
    Display,
    Progress,
    RowKey,
    Show,
    StopRequest,
    make_display,
    stop_request,
)
from pipelines.plan import Plan
from pipelines.schedule.queue import TrialQueue
from pipelines.spec import NodeType, TrialSpec
from pipelines.storage import RemoteStaging, ResultsBackend, SharedFolderBackend, Staging
from pipelines.store import Store
from pipelines.trial import TRAIN, record_failure

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


def run_schedule(
    specs: Sequence[TrialSpec],
    *,
    store: Store,
    home: ResultsBackend | None = None,
    cluster: str | None = None,
    show: Show = "auto",
    plan: Plan | None = None,
    on_begun: Callable[[Progress], None] | None = None,
    on_finished: Callable[[TrialSpec], None] | None = None,
    train: str = TRAIN,
    max_failures: int = MAX_DEATHS,
    node_types: Sequence[NodeType] = (),
    pack_gpus: bool = False,
    resume: str = "the same command",
) -> ScheduleOutcome:
    """Run the trials, each on the resources it asks for, and return how they stand in the store.

    Args:
        specs: the trials that are missing.
        store: the open store they are written to; the caller holds its lock.
        home: where the results live, a folder that all machines see by default.
        cluster: None for this machine, else the address of a running Ray cluster (or ``auto``).
        show: ``auto`` is a live table in a terminal and plain lines elsewhere.
        plan: where the trials come from: tells which rows take longest (they start first) and what is done already.
        on_begun: called once the machines are found good, before anything is trained, with what will be known of it.
        on_finished: called in the driver with each trial that ended; it must return at once and not raise.
        train: the function that trains, as ``module:name``.
        max_failures: times a trial is started again after its process died.
        node_types: machines that the cluster's autoscaler can start.
        pack_gpus: measure what trials take of a GPU, and let as many share one as fit (``--trials-per-gpu auto``).
        resume: the command that goes on after the cluster was lost, for the message.

    Raises:
        UserError: if the cluster cannot be used, a trial fits on none of its machines, or machines keep sending trials
            back that they cannot train.
    """
    seconds = estimates(plan)
    ordered = longest_first(specs, seconds)
    if not ordered:
        return ScheduleOutcome(0, 0, 0, interrupted=False)
    progress = Progress(ordered, done_before(plan, specs), seconds, epochs_before(plan))
    display = make_display(progress, show)
    results_dir = ordered[0].results_dir
    home = home or SharedFolderBackend(results_dir)

    def say() -> None:
        display.note("stopping: the trials write their checkpoints (Ctrl-C again ends at once)")

    with stop_request(results_dir, say) as stop, stop.on_signals():
        with connect(cluster, resume) as folder, home.depot(stop) as depot:
            sight = VisibilityProbe(stop.folder, depot if isinstance(depot, RemoteStaging) else None)
            ordered, missing = check_machines(ordered, cluster, sight, display, node_types)
            home.refuse(ordered)
            if pack_gpus:
                ordered = _packed(ordered, display)
            if on_begun is not None:
                on_begun(progress)
            with stop.on_signals(), display:  # again: ray.init sets a handler of its own for SIGTERM
                ended = _fit(
                    _Run(
                        ordered,
                        store,
                        progress,
                        display,
                        stop,
                        folder,
                        on_finished,
                        train,
                        depot,
                        sight if cluster is not None else None,
                        max_failures,
                        node_types,
                    )
                )
        home.refresh()
        outcome = _recount(store, ordered, progress, ended.errors, interrupted=stop.requested)
        if len(ended.unfit) >= MOST_UNFIT:
            raise UserError(
                f"{len(ended.unfit)} trials were sent back by machines that cannot train them, the last one by "
                f"{ended.unfit[-1]}; mend or remove such machines, then give the same command again"
            )
        return replace(outcome, missing=missing)


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


def epochs_before(plan: Plan | None) -> dict[str, int]:
    """Return the epochs that trials which go on from a checkpoint have behind them, by their ids."""
    runs = plan.to_run() if plan else ()
    return {trial.spec.trial_id: done for trial in runs if (done := trial.spec.recipe.epochs - trial.epochs_left)}


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


@dataclass(frozen=True)
class _Run:
    """What an experiment is made of."""

    specs: Sequence[TrialSpec]
    store: Store
    progress: Progress
    display: Display
    stop: StopRequest
    folder: Path
    on_finished: Callable[[TrialSpec], None] | None
    train: str
    depot: Staging
    sight: VisibilityProbe | None
    max_failures: int
    node_types: Sequence[NodeType]

    def give_up(self, spec: TrialSpec, reason: str) -> None:
        """Record in the store that a trial is not started again."""
        with contextlib.suppress(OSError):  # a full disk: it is tried once more when the run ends
            if self.store.state(spec).kind != "done":
                record_failure(self.store, spec, reason)


def _packed(specs: Sequence[TrialSpec], display: Display) -> list[TrialSpec]:
    import ray

    from pipelines.schedule.gpu_memory import pack

    return pack(specs, living_nodes(ray.nodes()), specs[0].results_dir, display.note)


class _Ended(NamedTuple):
    """Trials that were given up, by id, and why; and what machines said that sent one back."""

    errors: Mapping[str, str] = MappingProxyType({})
    unfit: Sequence[str] = ()


def _fit(run: _Run) -> _Ended:
    """Run the experiment. Tune starts nothing again: what is to go on comes from the queue once more."""
    import ray
    from ray import tune

    from pipelines.schedule.callbacks import QueueSearcher, TuneCallback
    from pipelines.schedule.trainable import make_trainable
    from pipelines.schedule.tune import run_config, tune_config, with_resources

    machines = [*living_nodes(ray.nodes()), *future_nodes(run.node_types)]
    queue = TrialQueue(run.specs, room_of_all(run.node_types), across_at_once(run.specs, machines))
    watcher = TuneCallback(
        run.progress,
        run.display,
        run.on_finished,
        queue,
        most_deaths=run.max_failures,
        give_up=run.give_up,
        stop=run.stop,
    )
    grace = FAR_GRACE_SECONDS if isinstance(run.depot, RemoteStaging) else GRACE_SECONDS
    tuner = tune.Tuner(
        with_resources(make_trainable(run.depot, run.train, run.sight)),
        # num_samples: until the searcher says that it has finished
        tune_config=tune_config(run.specs, search_alg=QueueSearcher(queue, run.stop), num_samples=-1),
        run_config=run_config("trials", run.folder, run.stop, run.progress, watcher, retries=0, grace=grace),
    )
    if run.stop.requested:
        return _Ended()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it logs whole trials for what is said in a line here
    try:
        with ray_environment(_QUEUE_LIMITS):
            tuner.fit()
    except KeyboardInterrupt:  # the second one
        run.stop.request()
    return _Ended(watcher.errors, watcher.unfit)


def _recount(
    store: Store, specs: Sequence[TrialSpec], progress: Progress, errors: Mapping[str, str], *, interrupted: bool
) -> ScheduleOutcome:
    """Count from the store; a trial that was given up without a record of its own gets one.

    What a trial's process has committed it has verified: whoever reports reads it again, and once is enough.
    """
    done = failed = 0
    for spec in specs:
        there = progress.trials[spec.trial_id].state == "done" and store.folder(spec).is_dir()
        kind = "done" if there else store.state(spec).kind
        if kind not in ("done", "failed") and spec.trial_id in errors:
            with contextlib.suppress(OSError):  # a full disk: it stays unfinished
                record_failure(store, spec, errors[spec.trial_id])
                kind = "failed"
        done += kind == "done"
        failed += kind == "failed"
    return ScheduleOutcome(done, failed, len(specs) - done - failed, interrupted=interrupted)
