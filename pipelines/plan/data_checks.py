"""What can be checked, and what must be prepared, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dnw_core.data import STREAMED_DATASETS, EncodedImages, ImageDataset, check_fit, open_dataset
from dnw_core.errors import DataMissingError
from pipelines.plan.planner import Plan
from pipelines.spec import TrialSpec
from pipelines.store import Store


def check_data(plan: Plan, *, local: bool, say: Callable[[str], None]) -> None:
    """Read every data set that will be needed, check it against every recipe, and name the missing ones.

    Args:
        plan: what will be trained.
        local: whether trials run on this machine; the scheduler asks the nodes of a cluster.
        say: prints one line.

    Raises:
        UserError: if a data set is truncated or altered, does not fit a network, or if every trial lacks its data.
    """
    if not local:
        return
    runs = plan.to_run()
    rows: dict[str, set[tuple[str, str]]] = {}
    for trial in plan.without_data():
        rows.setdefault(trial.detail, set()).add(trial.spec.row_key)
    if rows and not runs:
        raise DataMissingError("; ".join(rows))
    for detail, names in rows.items():
        say(missing_line(len(names), detail))
    read_data([trial.spec for trial in runs], say)


def missing_line(rows: int, why: str) -> str:
    """Return the warning about the rows of a missing data set."""
    return f"warning: data missing, {rows} row{'s are' if rows > 1 else ' is'} left out: {why}"


def read_data(specs: Iterable[TrialSpec], say: Callable[[str], None]) -> None:
    """Read and verify the trials' data sets (which also fills the cache), and check them against the recipes.

    Raises:
        UserError: if a data set is missing, truncated or altered, or does not fit a network.
    """
    loaded: dict[str, ImageDataset | EncodedImages] = {}
    for spec in specs:
        name = spec.recipe.data.dataset
        if name not in loaded:
            if name != "digits":
                first = "every image" if name in STREAMED_DATASETS else "takes a minute"
                say(f"reading and verifying {name} (the first time: {first})")
            loaded[name] = open_dataset(name, spec.execution)
        check_fit(spec.recipe, loaded[name])


def prepare_store(plan: Plan, store: Store, say: Callable[[str], None]) -> None:
    """Prepare the store for the trials: set damaged and replaced results aside, clear failures to be retried.

    Args:
        plan: what will be trained.
        store: the store; its lock is held.
        say: prints one line.
    """
    for trial in plan.to_run():
        name = trial.spec.trial_id
        if plan.mode == "force" and not trial.required_by:
            for path in store.reset(trial.spec):
                say(f"{name} is trained again; its old results are now in {path.relative_to(store.results_dir)}")
            continue
        if trial.stored.damaged is not None:
            moved = store.set_aside(trial.spec)
            if moved is not None:
                where = moved.relative_to(store.results_dir)
                say(f"warning: {name} failed verification ({trial.stored.damaged}); moved to {where}, trained again")
        if trial.state == "failed":
            store.clear_failure(trial.spec)
