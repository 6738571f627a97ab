"""The parent of a trial: the finished trial of the same seed from which it starts."""

from __future__ import annotations

from pathlib import Path

from dnw_core.errors import DnwError
from dnw_core.record import TrialRecord
from pipelines.spec import TrialSpec
from pipelines.store import Store, TrialState

WITHOUT_WEIGHTS = "its folder here lacks the weights; --mode force with --only its row trains it again"


class TrialBlockedError(DnwError):
    """The trial cannot start, because its parent is not finished. The message says which one, and why."""


def parent_spec(spec: TrialSpec) -> TrialSpec | None:
    """Return the parent as the store knows it, or None where there is none.

    Only what identifies it is its own; where it was trained, and its own parent, do not matter here.
    """
    parent, recipe = spec.parent, spec.recipe.parent
    if parent is None or recipe is None:
        return None
    identity = {"table": parent.table, "row": parent.row, "fingerprint": parent.fingerprint}
    return spec.model_copy(update={**identity, "recipe": recipe, "parent": None})


def finished_parent(store: Store, spec: TrialSpec) -> Path | None:
    """Return the folder of the parent's finished trial, every file of it verified; None if the trial has no parent.

    Raises:
        TrialBlockedError: if the parent is not done, or its folder failed verification.
    """
    parent = parent_spec(spec)
    if parent is None:
        return None
    stored = store.state(parent)
    if stored.kind != "done":
        raise TrialBlockedError(blocked_by(parent, describe(stored)))
    if not stored.weights:
        raise TrialBlockedError(blocked_by(parent, WITHOUT_WEIGHTS))
    return store.folder(parent)


def describe(stored: TrialState) -> str:
    """Return in a few words why a trial that is not done cannot be a parent."""
    if stored.damaged is not None:
        return f"its finished folder failed verification: {stored.damaged}"
    return f"failed: {stored.reason or 'no reason recorded'}" if stored.kind == "failed" else "not finished"


def blocked_by(parent: TrialSpec | TrialRecord, why: str) -> str:
    """Return ``blocked by wirings/complete seed 0 (failed: the loss is nan)``."""
    return f"blocked by {parent.table}/{parent.row} seed {parent.seed} ({why})"
