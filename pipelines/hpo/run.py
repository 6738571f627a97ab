"""Ray Tune over the configurations of a search that are not ended yet. The store is the truth; Tune only schedules."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from pipelines.cluster import VisibilityProbe, across_at_once, check_machines, connect, living_nodes, ray_environment
from pipelines.driver import Display, Progress, Show, StopRequest, make_display, stop_request
from pipelines.hpo.curve import read_curve
from pipelines.hpo.plan import Judged, Search, judge
from pipelines.spec import TrialSpec
from pipelines.store import Store
from pipelines.trial import TRAIN, record_failure


def run_search(
    search: Search,
    judged: Sequence[Judged],
    *,
    store: Store,
    cluster: str | None = None,
    show: Show = "auto",
    train: str = TRAIN,
) -> bool:
    """Train the configurations that are not ended; return whether Ctrl-C ended it.

    Args:
        search: the search.
        judged: how its configurations stand.
        store: its open store; the caller holds the lock.
        cluster: None for this machine, else the address of a running Ray cluster (or ``auto``).
        show: ``auto`` is a live table in a terminal and plain lines elsewhere.
        train: the function that trains, as ``module:name``.

    Raises:
        UserError: if the cluster cannot be used, or a configuration fits on none of its machines.
    """
    # those that are under way first, so that they can reach the end
    left = sorted((one for one in judged if one.standing in ("partial", "new")), key=lambda one: -one.epochs_done)
    specs = [one.configuration.spec for one in left]
    if not specs:
        return False
    progress = Progress(specs, epochs_before={one.configuration.spec.trial_id: one.epochs_done for one in left})
    display = make_display(progress, show)

    def say() -> None:
        display.note("stopping: the configurations write their checkpoints (Ctrl-C again ends at once)")

    with stop_request(search.results_dir, say) as stop, stop.on_signals():
        with connect(cluster) as folder:
            specs, _ = check_machines(specs, cluster, VisibilityProbe(stop.folder), display)  # all on the same data
            with stop.on_signals(), display:  # again: ray.init sets a handler of its own for SIGTERM
                errors = _fit(search, judged, specs, progress, display, stop, folder, train)
        _record_deaths(search, store, errors)
        return stop.requested


def _fit(
    search: Search,
    judged: Sequence[Judged],
    specs: Sequence[TrialSpec],
    progress: Progress,
    display: Display,
    stop: StopRequest,
    folder: Path,
    train: str,
) -> dict[str, str]:
    """Run the experiment; return the reasons of configurations that Tune gave up, by trial id."""
    from ray import tune

    from pipelines.hpo.asha import StoredASHA
    from pipelines.hpo.tune import make_search_trainable
    from pipelines.schedule.callbacks import TuneCallback
    from pipelines.schedule.trainable import KEY
    from pipelines.schedule.tune import make_trainable_class, run_config, tune_config

    scheduler = StoredASHA(search.epochs, search.first_rung, search.budget.reduction_factor, search.results_dir)
    store = Store(search.results_dir)
    for one in judged:
        if one.standing != "failed":
            scheduler.replay(one.configuration.spec.trial_id, read_curve(store.folder(one.configuration.spec)))
    watcher = TuneCallback(progress, display)
    tuner = tune.Tuner(
        make_trainable_class(make_search_trainable(stop.file, train)),
        param_space={KEY: tune.grid_search([spec.model_dump_json() for spec in specs])},
        tune_config=tune_config(specs, scheduler=scheduler, max_concurrent_trials=_at_once(specs)),
        run_config=run_config("search", folder, stop, watcher),
    )
    if stop.requested:
        return {}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it logs whole trials for what is said in a line here
    try:
        # what is interrupted or fails has no accuracy to report, and Tune would end the whole search over it
        with ray_environment({"TUNE_DISABLE_STRICT_METRIC_CHECKING": "1"}):
            tuner.fit()
    except KeyboardInterrupt:  # the second one
        stop.request()
    return watcher.errors


def _at_once(specs: Sequence[TrialSpec]) -> int | None:
    """Return how many configurations may run together: Tune counts only what runs within its own reservations."""
    import ray

    parting = any(spec.resources.across_nodes for spec in specs)
    return across_at_once(specs, living_nodes(ray.nodes())) if parting else None


def _record_deaths(search: Search, store: Store, errors: dict[str, str]) -> None:
    """Give a configuration whose process died too often a record of its failure."""
    for one in judge(search, store):
        spec = one.configuration.spec
        if one.standing in ("partial", "new") and spec.trial_id in errors:
            with contextlib.suppress(OSError):  # a full disk: it stays unfinished
                record_failure(store, spec, errors[spec.trial_id])
