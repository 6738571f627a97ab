"""Which of the planned trials run: each by its own state and by its parent's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dnw_core.config import RETIRED_FIELDS, Recipe, flatten
from dnw_core.record import TrialRecord
from pipelines.spec import TrialSpec
from pipelines.store import Store, TrialState
from pipelines.trial import blocked_by

SpecOf = Callable[[tuple[str, str], int], TrialSpec]  # (table, row), seed -> the trial


@dataclass(frozen=True)
class Decision:
    """A trial of which is decided whether it runs."""

    judged: Judged
    state: State
    detail: str
    runs: bool
    pulled_by: tuple[str, ...] = ()


class StoreQueries:
    """Asks the store about trials, about each one once; trials stay in the order in which they were asked about.

    Args:
        store: the results so far.
        spec_of: makes the trial of a known row.
    """

    def __init__(self, store: Store, spec_of: SpecOf) -> None:
        self._store = store
        self._spec_of = spec_of
        self.history: list[TrialRecord] = [stored.record for stored in store.records()]
        self.judged: dict[str, Judged] = {}
        self._drift = functools.cache(self._find_drift)

    def ask(self, trials: Sequence[tuple[TrialSpec, bool]]) -> list[Judged]:
        """Look at the trials (each with whether it is pulled in) and return those that are new here."""
        new = [(spec, pulled) for spec, pulled in trials if spec.trial_id not in self.judged]
        states = self._store.states([spec for spec, _ in new])
        found = []
        for (spec, pulled), stored in zip(new, states, strict=True):
            drift = self._drift(spec.table, spec.row)
            self.judged[spec.trial_id] = judge(spec, stored, drift, pulled=pulled)
            found.append(self.judged[spec.trial_id])
        return found

    def ask_parents(self, children: Sequence[Judged]) -> list[Judged]:
        """Look at the parents of the trials and return those that are new here."""
        specs = {
            one.spec.parent_id: self._spec_of((one.spec.parent.table, one.spec.parent.row), one.spec.seed)
            for one in children
            if one.spec.parent is not None
        }
        return self.ask([(spec, True) for spec in specs.values()])

    def parent_of(self, spec: TrialSpec) -> Judged | None:
        """Return the trial's parent, where it was asked about."""
        return self.judged.get(spec.parent_id) if spec.parent_id is not None else None

    def _find_drift(self, table: str, row: str) -> str | None:
        return describe_drift(self._spec_of((table, row), 0), self.history)  # the same for every seed


def settle(survey: StoreQueries, mode: Mode) -> list[Decision]:
    """Return every trial that was asked about, and every parent that must be trained first.

    A trial needs its parent while it is not finished itself: a parent that can still be trained is pulled in, one
    that has failed and is not retried blocks it.
    """
    asked = list(survey.judged.values())
    lacking = [one for one in asked if _needs_parent(one, mode)]
    while lacking:
        lacking = [one for one in survey.ask_parents(lacking) if _needs_parent(one, mode)]

    @functools.cache
    def decide(trial_id: str) -> Decision:
        one = survey.judged[trial_id]
        runs = should_run(mode, one.state, pulled=one.pulled)
        parent = survey.parent_of(one.spec) if _needs_parent(one, mode) else None
        if parent is not None:
            first = decide(parent.spec.trial_id)
            if not first.runs and first.state in ("failed", "blocked"):
                why = f"failed: {first.detail}" if first.state == "failed" else first.detail
                return Decision(one, "blocked", blocked_by(parent.spec, why), runs=False)
        return Decision(one, one.state, one.detail, runs)

    settled = [decide(trial_id) for trial_id in survey.judged]
    children: dict[str, dict[str, None]] = {}  # parent's trial -> names of the rows that run and start from it
    for one in settled:
        spec = one.judged.spec
        if one.runs and spec.parent_id is not None:
            children.setdefault(spec.parent_id, {})[f"{spec.table}/{spec.row}"] = None
    wanted = {one.spec.trial_id for one in asked}
    return [
        _with_children(one, tuple(children.get(one.judged.spec.trial_id, {})))
        for one in settled
        if one.judged.spec.trial_id in wanted or (one.runs and one.judged.spec.trial_id in children)
    ]


def _needs_parent(one: Judged, mode: Mode) -> bool:
    """Whether the parent matters: the trial is still to be trained, in this mode or some day."""
    if one.spec.parent is None:
        return False
    return should_run(mode, one.state, pulled=one.pulled) or one.state not in ("done", "failed")


def _with_children(one: Decision, names: tuple[str, ...]) -> Decision:
    return Decision(one.judged, one.state, one.detail, one.runs, names) if one.judged.pulled else one


_MOST_CHANGES = 3


@dataclass(frozen=True)
class Judged:
    """A trial and how it stands before it is decided what runs."""

    spec: TrialSpec
    stored: TrialState
    state: State
    detail: str  # why, where the state alone does not say it
    pulled: bool  # nobody asked for it: only another row needs it


def judge(spec: TrialSpec, stored: TrialState, drift: str | None, *, pulled: bool) -> Judged:
    """Return how a trial stands.

    Args:
        spec: the trial.
        stored: what the store knows of it.
        drift: how an older result of the row differs (``describe_drift``).
        pulled: whether only another row needs it.
    """
    state: State = stored.kind
    detail = f"the finished folder is not believed: {stored.damaged}" if stored.damaged else ""
    if stored.kind == "failed":
        detail = stored.reason or "no reason recorded"
    elif stored.kind == "partial":
        detail = detail or f"epoch {stored.epochs_done} of {spec.recipe.epochs}"
    elif stored.kind == "new" and drift is not None and not detail:
        state, detail = "drifted", drift
    return Judged(spec, stored, state, detail, pulled)


def describe_drift(spec: TrialSpec, history: Sequence[TrialRecord]) -> str | None:
    """Return how an older result of the row at this scale differs in its recipe; None if there is none."""
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
    names = sorted(set(before) | set(after))
    nothing = "–"
    return [
        f"{name} {before.get(name, nothing)} → {after.get(name, nothing)}"
        + (f" ({RETIRED_FIELDS[name]})" if name in RETIRED_FIELDS else "")
        for name in names
        if before.get(name, nothing) != after.get(name, nothing)
    ]


Mode = Literal["cached", "retry", "force", "read-only"]
State = Literal["done", "partial", "failed", "drifted", "new", "data missing", "blocked"]

MODES: dict[Mode, str] = {
    "cached": "keep results and failures, train what is missing or was interrupted",
    "retry": "also train what failed, from its last checkpoint",
    "force": "train everything again from the start; what was there moves to set-aside/",
    "read-only": "train nothing; exit code 1 if something is missing",
}


def should_run(mode: Mode, state: State, *, pulled: bool = False) -> bool:
    """Whether a trial in this state is trained in this mode.

    One whose data are missing, or that is blocked, cannot be trained in any mode. One that is ``pulled`` in only
    because another trial starts from it is not forced: what is done serves.
    """
    if mode == "read-only" or state in ("data missing", "blocked"):
        return False
    if mode == "force" and not pulled:
        return True
    return state != "done" and (state != "failed" or mode in ("retry", "force"))
