"""The rounds of a search, each an ordinary schedule of ordinary trials that stop at the round's rung."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.hpo.halving import assess, save_scores
from pipelines.hpo.plan import Search
from pipelines.schedule import run_schedule
from pipelines.spec import TrialSpec
from pipelines.store import Store
from pipelines.trial import TRAIN


def run_search(
    search: Search,
    store: Store,
    *,
    say: Callable[[str], None],
    cluster: str | None = None,
    train: str = TRAIN,
    resume: str = "the same command",
) -> bool:
    """Train what is left, round by round; return whether Ctrl-C ended it.

    It also ends after a round in which a configuration neither reached the rung nor failed, for example because its
    machine was lost.

    Args:
        search: the search.
        store: its open store; the caller holds the lock.
        say: prints one line.
        cluster: None for this machine, else the address of a running Ray cluster (or ``auto``).
        train: the function that trains, as ``module:name``.
        resume: the command that goes on after the cluster was lost, for the message.

    Raises:
        UserError: if the cluster cannot be used, or a configuration fits on none of its machines.
    """
    trained = 0
    while True:
        statuses, following = assess(search, store)
        save_scores(search, statuses)
        if not following.configurations or following.rung <= trained:
            return False
        count = len(following.configurations)
        to = f"to epoch {following.rung} of {search.epochs}" if following.rung < search.epochs else "to the end"
        say(f"{count} configuration{'s' if count > 1 else ''} {to}")
        specs = [_stopping(one.spec, following.rung) for one in following.configurations]
        if run_schedule(specs, store=store, cluster=cluster, train=train, resume=resume).interrupted:
            return True
        trained = following.rung


def _stopping(spec: TrialSpec, rung: int) -> TrialSpec:
    """Return the trial that stops at the rung; at the last one it is trained to its end."""
    stop = rung if rung < spec.recipe.epochs else None
    return spec.model_copy(update={"execution": spec.execution.model_copy(update={"stop_after_epochs": stop})})
