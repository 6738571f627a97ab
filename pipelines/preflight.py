"""Everything that can be known to go wrong is looked at before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dnw_core.errors import DataMissing
from pipelines.planner import Plan
from pipelines.spec import TrialSpec
from pipelines.store import Store


def check_data(plan: Plan, *, local: bool, say: Callable[[str], None]) -> None:
    """Read every data set that will be needed, and hold it against every recipe.

    Args:
        plan: what will be trained.
        local: whether trials run on this machine; a cluster's nodes are asked by the scheduler.
        say: prints one line.

    Raises:
        UserError: if a data set is missing, truncated or altered, or does not fit a network.
    """
    if not local:
        return
    runs = plan.to_run()
    for trial in runs:
        if trial.state == "data missing":
            raise DataMissing(trial.detail)
    read_data([trial.spec for trial in runs], say)


def read_data(specs: Iterable[TrialSpec], say: Callable[[str], None]) -> None:
    """Read the trials' data sets, checksums and all (which fills the cache, too), and hold them against the recipes.

    Raises:
        UserError: if a data set is missing, truncated or altered, or does not fit a network.
    """
    from dnw_core.data import load_dataset
    from dnw_core.training.images import check_fit

    loaded = {}
    for spec in specs:
        name = spec.recipe.data.dataset
        if name not in loaded:
            if name != "digits":
                say(f"reading {name} and checking it (the first time takes a minute)")
            loaded[name] = load_dataset(name, spec.execution)
        check_fit(spec.recipe, loaded[name])


def check_cluster(address: str) -> None:
    """Check that the cluster takes us, before a result is moved aside for it.

    Raises:
        UserError: within 20 s, if it does not.
    """
    from pipelines.ray_cluster import resolve_address, try_address

    try_address(resolve_address(address))


def make_room(plan: Plan, store: Store, say: Callable[[str], None]) -> None:
    """Prepare the store for the trials: damaged and replaced results move aside, failures to be retried are cleared.

    Args:
        plan: what will be trained.
        store: the store; its lock is held.
        say: prints one line.
    """
    for trial in plan.to_run():
        name = trial.spec.trial_id
        if plan.mode == "force" and not trial.pulled_by:
            for path in store.reset(trial.spec):
                say(f"{name} is trained again; the old one is now {path.relative_to(store.results_dir)}")
            continue
        if trial.stored.damaged is not None:
            moved = store.set_aside(trial.spec)
            if moved is not None:
                where = moved.relative_to(store.results_dir)
                say(f"warning: {name} is not believed ({trial.stored.damaged}); moved to {where}, trained again")
        if trial.state == "failed":
            store.clear_failure(trial.spec)
