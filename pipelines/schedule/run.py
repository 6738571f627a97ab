"""Runs trials through Ray Tune, which decides which trial runs where and when, and nothing else.

What counts is in the store. Each call runs a fresh Tune experiment over the trials it is given and then counts from the
store: Tune's own restore ignores rows that were added or changed, and its result calls trials "terminated" that were
stopped, that reported nothing, or whose loss was not finite.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dnw_core.errors import UserError
from pipelines.cluster import (
    MAX_SENT_BACK,
    VisibilityProbe,
    across_at_once,
    check_machines,
    connect,
    future_nodes,
    living_nodes,
    room_of_all,
)
from pipelines.driver import (
    GRACE_SECONDS,
    MAX_DEATHS,
    REMOTE_GRACE_SECONDS,
    Progress,
    make_display,
    stop_request,
)
from pipelines.plan import Plan
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.trainable import make_trainable
from pipelines.spec import NodeType, RowKey, TrialSpec
from pipelines.storage import RemoteStaging, ResultsBackend, SharedFolderBackend
from pipelines.store import Store
from pipelines.trial import TRAIN, record_failure


@dataclass(frozen=True)
class ScheduleOutcome:
    """How many of the given trials are in which state in the store after the run."""

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
    plan: Plan | None = None,
    on_begun: Callable[[Progress], None] | None = None,
    on_finished: Callable[[TrialSpec], None] | None = None,
    train: str = TRAIN,
    max_failures: int = MAX_DEATHS,
    node_types: Sequence[NodeType] = (),
    pack_gpus: bool = False,
    resume: str = "the same command",
) -> ScheduleOutcome:
    """Run the trials, each on the resources it asks for, and return their states in the store.

    Args:
        specs: the trials that are missing.
        store: the open store they are written to; the caller holds its lock.
        home: where the results live, a folder that all machines see by default.
        cluster: None for this machine, else the address of a running Ray cluster (or ``auto``).
        plan: where the trials come from: tells which rows take longest (they start first) and what is done already.
        on_begun: called once the machines have been checked, before anything is trained, with the run's progress.
        on_finished: called in the driver with each trial that ended; it must return at once and not raise.
        train: the function that trains, as ``module:name``.
        max_failures: times a trial is started again after its process died.
        node_types: machines that the cluster's autoscaler can start.
        pack_gpus: measure what trials take of a GPU, and let as many share one as fit (``--trials-per-gpu auto``).
        resume: the command that continues after the cluster was lost, for the message.

    Raises:
        UserError: if the cluster cannot be used, a trial fits on none of its machines, or machines keep sending trials
            back that they cannot train.
    """
    seconds = estimates(plan)
    ordered = longest_first(specs, seconds)
    if not ordered:
        return ScheduleOutcome(0, 0, 0, interrupted=False)
    progress = Progress(ordered, done_before(plan, specs), seconds, epochs_before(plan))
    display = make_display(progress)
    results_dir = ordered[0].results_dir
    home = home or SharedFolderBackend(results_dir)

    def say() -> None:
        display.note("stopping: the trials write their checkpoints (Ctrl-C again ends at once)")

    with stop_request(results_dir, say) as stop, stop.on_signals():
        with connect(cluster, resume) as folder, home.staging(stop) as staging:
            import ray

            from pipelines.schedule.callbacks import TuneCallback
            from pipelines.schedule.tune import run_trials

            remote = staging if isinstance(staging, RemoteStaging) else None
            probe = VisibilityProbe(stop.folder, remote)
            ordered, missing = check_machines(ordered, cluster, probe, display, node_types)
            home.refuse(ordered)
            nodes = living_nodes(ray.nodes())
            if pack_gpus:
                from pipelines.schedule.gpu_memory import pack

                ordered = pack(ordered, nodes, results_dir, display.note)
            if on_begun is not None:
                on_begun(progress)
            across = across_at_once(ordered, [*nodes, *future_nodes(node_types)])
            queue = TrialQueue(ordered, room_of_all(node_types), across)
            callback = TuneCallback(
                progress,
                display,
                queue,
                on_finished=on_finished,
                max_failures=max_failures,
                give_up=functools.partial(_give_up, store),
                stop=stop,
            )
            trainable = make_trainable(staging, train, probe if cluster is not None else None)
            grace = GRACE_SECONDS if remote is None else REMOTE_GRACE_SECONDS
            with stop.on_signals(), display:  # again: ray.init sets a handler of its own for SIGTERM
                run_trials(ordered, queue, trainable, callback, folder=folder, stop=stop, grace=grace)
        home.refresh()
        outcome = _recount(store, ordered, progress, callback.errors, interrupted=stop.requested)
        if len(callback.sent_back) >= MAX_SENT_BACK:
            raise UserError(
                f"{len(callback.sent_back)} trials were sent back by machines that cannot train them, the last one by "
                f"{callback.sent_back[-1]}; repair or remove such machines, then give the same command again"
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
    done = [trial.spec for trial in (plan.trials if plan else ()) if trial.state == "done" and not trial.will_run]
    return dict(Counter(key for spec in done if (key := (spec.table, spec.row)) in rows))


def epochs_before(plan: Plan | None) -> dict[str, int]:
    """Return the epochs already trained of trials that go on from a checkpoint, by their ids."""
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


def _give_up(store: Store, spec: TrialSpec, reason: str) -> None:
    """Record in the store that a trial is not started again."""
    with contextlib.suppress(OSError):  # a full disk: _recount tries once more
        if store.state(spec).kind != "done":
            record_failure(store, spec, reason)


def _recount(
    store: Store, specs: Sequence[TrialSpec], progress: Progress, errors: Mapping[str, str], *, interrupted: bool
) -> ScheduleOutcome:
    """Count from the store; a trial that was given up without a record of its own gets one.

    The process of a trial has verified what it committed, and the report reads it again, so it is not read here.
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
