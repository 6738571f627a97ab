"""How a trial stands: what the store knows of it, held against today's recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dnw_core.config import flatten
from dnw_core.recipe import Recipe
from dnw_core.record import TrialRecord
from dnw_core.retired import RETIRED_FIELDS
from pipelines.modes import State
from pipelines.spec import TrialSpec
from pipelines.store import TrialState

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
