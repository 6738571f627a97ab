"""The state of every planned trial, and which trials will run: each by its own state and by its parent's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from dnw_core.config import RETIRED_FIELDS, Recipe, flatten
from dnw_core.record import TrialRecord
from pipelines.spec import RowKey, TrialSpec
from pipelines.store import Store, TrialState
from pipelines.trial import WITHOUT_WEIGHTS, blocked_by

Mode = Literal["cached", "retry", "force", "read-only"]
PlanState = Literal["done", "partial", "failed", "drifted", "new", "data missing", "blocked"]
SpecOf = Callable[[RowKey, int], TrialSpec]  # (table, row), seed -> the trial

MODES: dict[Mode, str] = {
    "cached": "keep results and failures, train what is missing or was interrupted",
    "retry": "also train what failed, from its last checkpoint",
    "force": "train everything again from the start and move the old results to set-aside/",
    "read-only": "train nothing; exit code 1 if something is missing",
}
_MOST_CHANGES = 3


def should_run(mode: Mode, state: PlanState, *, is_dependency: bool = False) -> bool:
    """Whether a trial in this state is trained in this mode.

    A trial whose data are missing, or that is blocked, cannot be trained in any mode. A trial that only others depend
    on is not forced: a finished one serves.
    """
    if mode == "read-only" or state in ("data missing", "blocked"):
        return False
    if mode == "force" and not is_dependency:
        return True
    return state != "done" and (state != "failed" or mode in ("retry", "force"))


@dataclass(frozen=True)
class TrialStatus:
    """A trial and its state in the store."""

    spec: TrialSpec
    stored: TrialState
    state: PlanState
    detail: str  # why, where the state alone does not say it
    is_dependency: bool  # nobody asked for it: only another row depends on it


@dataclass(frozen=True)
class Decision:
    """Whether a trial will run; its state differs from the status's where its parent blocks it."""

    status: TrialStatus
    state: PlanState
    detail: str
    will_run: bool
    required_by: tuple[str, ...] = ()


class StoreQueries:
    """Asks the store about trials, once about each; trials stay in the order of the queries.

    Args:
        store: the results so far.
        spec_of: makes the trial of a known row.
    """

    def __init__(self, store: Store, spec_of: SpecOf) -> None:
        self._store = store
        self._spec_of = spec_of
        self.history: list[TrialRecord] = [stored.record for stored in store.records()]
        self.statuses: dict[str, TrialStatus] = {}
        self._drift = functools.cache(self._find_drift)

    def ask(self, trials: Sequence[tuple[TrialSpec, bool]]) -> list[TrialStatus]:
        """Query the trials (each with whether it is a dependency only) and return those not asked about before."""
        new = [(spec, is_dependency) for spec, is_dependency in trials if spec.trial_id not in self.statuses]
        states = self._store.states([spec for spec, _ in new])
        found = {
            spec.trial_id: assess(spec, stored, self._drift(spec.row_key), is_dependency=is_dependency)
            for (spec, is_dependency), stored in zip(new, states, strict=True)
        }
        self.statuses |= found
        return list(found.values())

    def ask_parents(self, children: Sequence[TrialStatus]) -> list[TrialStatus]:
        """Query the parents of the trials and return those not asked about before."""
        specs = {
            child.spec.parent_id: self._spec_of((child.spec.parent.table, child.spec.parent.row), child.spec.seed)
            for child in children
            if child.spec.parent is not None
        }
        return self.ask([(spec, True) for spec in specs.values()])

    def _find_drift(self, row: RowKey) -> str | None:
        return describe_drift(self._spec_of(row, 0), self.history)  # the same for every seed


def assess(spec: TrialSpec, stored: TrialState, drift: str | None, *, is_dependency: bool) -> TrialStatus:
    """Return the status of a trial.

    Args:
        spec: the trial.
        stored: its state in the store.
        drift: how an older result of the row differs (``describe_drift``).
        is_dependency: whether only another row depends on it.
    """
    state: PlanState = stored.kind
    detail = f"the finished trial failed verification: {stored.damaged}" if stored.damaged else ""
    if stored.kind == "failed":
        detail = stored.reason or "no reason recorded"
    elif stored.kind == "partial":
        detail = detail or f"epoch {stored.epochs_done} of {spec.recipe.epochs}"
    elif stored.kind == "new" and drift is not None and not detail:
        state, detail = "drifted", drift
    return TrialStatus(spec, stored, state, detail, is_dependency)


def decide(queries: StoreQueries, mode: Mode) -> list[Decision]:
    """Return a decision for every trial that was asked about, and for every parent that must be trained first.

    An unfinished trial depends on its parent: a parent that can still be trained joins, and a parent that has failed
    and is not retried blocks the trial.
    """
    asked = set(queries.statuses)
    children = list(queries.statuses.values())
    while children := [one for one in children if _depends_on_parent(one, mode)]:
        children = queries.ask_parents(children)

    @functools.cache
    def decision_on(trial_id: str) -> Decision:
        one = queries.statuses[trial_id]
        if _depends_on_parent(one, mode):
            first = decision_on(one.spec.parent_id or "")
            if not first.will_run and first.state in ("failed", "blocked"):
                why = f"failed: {first.detail}" if first.state == "failed" else first.detail
                return Decision(one, "blocked", blocked_by(first.status.spec, why), will_run=False)
            if not first.will_run and not first.status.stored.weights:
                return Decision(one, "blocked", blocked_by(first.status.spec, WITHOUT_WEIGHTS), will_run=False)
        will_run = should_run(mode, one.state, is_dependency=one.is_dependency)
        return Decision(one, one.state, one.detail, will_run)

    decisions = {trial_id: decision_on(trial_id) for trial_id in queries.statuses}
    required_by: dict[str, dict[str, None]] = {}  # parent's trial -> names of the rows that start from it
    for decision in decisions.values():
        spec = decision.status.spec
        if decision.will_run and spec.parent_id is not None:
            required_by.setdefault(spec.parent_id, {})[spec.row_name] = None
    return [
        replace(decision, required_by=tuple(required_by.get(name, ()))) if decision.status.is_dependency else decision
        for name, decision in decisions.items()
        if name in asked or (decision.will_run and name in required_by)
    ]


def _depends_on_parent(one: TrialStatus, mode: Mode) -> bool:
    """Whether the parent matters: the trial is still to be trained, in this mode or another."""
    if one.spec.parent is None:
        return False
    return should_run(mode, one.state, is_dependency=one.is_dependency) or one.state not in ("done", "failed")


def describe_drift(spec: TrialSpec, history: Sequence[TrialRecord]) -> str | None:
    """Return how the recipe of an older result of the row at this scale differs; None without such a result."""
    older = {
        record.fingerprint: record
        for record in history
        if (record.table, record.row, record.scale) == (spec.table, spec.row, spec.scale)
        and record.fingerprint != spec.fingerprint
    }
    if not older:
        return None
    described = {name: describe_changes(record.recipe, spec.recipe) for name, record in older.items()}
    closest = min(described, key=lambda name: (len(described[name]), name))
    changes = described[closest]
    more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
    return f"since {closest}: {'; '.join(changes[:_MOST_CHANGES])}{more}"


def describe_changes(old: Recipe, new: Recipe) -> list[str]:
    """Return ``setting old → new`` for every setting that differs, and why if this project changed it in its rows."""
    before, after = flatten(old), flatten(new)
    nothing = "–"
    return [
        f"{name} {before.get(name, nothing)} → {after.get(name, nothing)}"
        + (f" ({RETIRED_FIELDS[name]})" if name in RETIRED_FIELDS else "")
        for name in sorted({*before, *after})
        if before.get(name, nothing) != after.get(name, nothing)
    ]
