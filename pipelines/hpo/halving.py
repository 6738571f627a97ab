"""Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) over the trials of a search's store.

Each round trains the configurations that are left to its rung; the best of them go on from their checkpoints. Who
goes on follows from the scores at the rungs alone, so a killed search goes on as if it had not been interrupted. A
trial's ``progress.json`` holds only its latest score; ``rungs.json`` keeps those at earlier rungs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from dnw_core.errors import UserError
from dnw_core.files import read_json, write_text
from dnw_core.record import PROGRESS_FILE, EpochMetrics, Fraction, TrialRecord
from pipelines.hpo.plan import Configuration, Search
from pipelines.store import Store, TrialState, work_folder

SCORES_FILE = "rungs.json"
Standing = Literal["finished", "stopped", "failed", "partial", "new"]
_SCORES = TypeAdapter(dict[str, dict[int, Fraction]])  # trial id -> epochs -> validation accuracy


@dataclass(frozen=True)
class Status:
    """A configuration and its state in the store."""

    configuration: Configuration
    standing: Standing
    epochs_done: int
    seconds: float  # of training so far
    scores: Mapping[int, float]  # epochs -> accuracy on the validation images (a fraction)
    reason: str | None = None  # of a failure
    damaged: str | None = None  # why the folder of a finished trial failed verification
    record: TrialRecord | None = None  # of a finished trial

    @property
    def accuracy(self) -> float | None:
        """The latest score of a configuration that is finished or stopped."""
        return self.scores[max(self.scores)] if self.scores and self.standing in ("finished", "stopped") else None

    @property
    def has_ended(self) -> bool:
        """Whether it is trained no further."""
        return self.standing in ("finished", "stopped", "failed")

    def score_at(self, rung: int) -> float | None:
        """Return the score at a rung; None before it. One that went on before scores were kept comes first."""
        return self.scores.get(rung, math.inf if self.epochs_done > rung else None)


@dataclass(frozen=True)
class Round:
    """What is trained next: each configuration up to ``rung`` epochs. No configuration: the search has ended."""

    rung: int
    configurations: tuple[Configuration, ...]
    epochs_left: int  # of this round and those after it, if no configuration fails


def assess(search: Search, store: Store) -> tuple[list[Status], Round]:
    """Return the status of every configuration, in order, and the round that comes next."""
    states = store.states([one.spec for one in search.configurations])
    known = _read_scores(search.results_dir)
    found = [
        _status(one, state, store.folder(one.spec), known.get(one.spec.trial_id, {}))
        for one, state in zip(search.configurations, states, strict=True)
    ]
    left = list(found)
    for rung in search.rungs:
        if rung == search.epochs:  # a score alone does not make a finished trial
            waiting, reached = [one for one in left if not one.has_ended], []
            break
        waiting = [one for one in left if not one.has_ended and one.score_at(rung) is None]
        reached = [one for one in left if one.score_at(rung) is not None]
        if waiting:
            break
        best = sorted(reached, key=lambda one: (-(one.score_at(rung) or 0.0), one.configuration.index))
        left = best[: search.survivors(len(best))]
    statuses = [one if one.has_ended or one in left else replace(one, standing="stopped") for one in found]
    epochs_left = sum(rung - one.epochs_done for one in waiting)
    count = len(waiting) + len(reached)
    for before, after in zip(search.rungs, search.rungs[1:], strict=False):
        if before >= rung:
            count = search.survivors(count)
            epochs_left += count * (after - before)
    waiting.sort(key=lambda one: one.configuration.index)
    return statuses, Round(rung, tuple(one.configuration for one in waiting), epochs_left)


def ranking(statuses: Sequence[Status]) -> list[Status]:
    """Return those with an accuracy, best first: the finished ones, then the stopped ones, furthest first.

    Ties go to the configuration that was drawn earlier.
    """
    return sorted(
        (one for one in statuses if one.accuracy is not None),
        key=lambda one: (one.standing != "finished", -one.epochs_done, -(one.accuracy or 0.0), one.configuration.index),
    )


def save_scores(search: Search, statuses: Sequence[Status]) -> None:
    """Keep the scores at the search's rungs, before a later round replaces those in the trials' progress.

    Raises:
        UserError: if they cannot be written.
    """
    before = _read_scores(search.results_dir)
    scores = dict(before)
    for one in statuses:
        name = one.configuration.spec.trial_id
        at_rungs = {rung: one.scores[rung] for rung in search.rungs[:-1] if rung in one.scores}
        if at_rungs:
            scores[name] = scores.get(name, {}) | at_rungs
    if scores == before:
        return
    path = search.results_dir / SCORES_FILE
    try:
        write_text(path, _SCORES.dump_json(scores, indent=1).decode() + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); free some space") from None


def _read_scores(results_dir: Path) -> dict[str, dict[int, float]]:
    try:
        return _SCORES.validate_json((results_dir / SCORES_FILE).read_bytes())
    except (OSError, ValidationError):  # none yet, or damaged
        return {}


def _status(one: Configuration, state: TrialState, folder: Path, known: Mapping[int, float]) -> Status:
    record = state.record
    if record is not None and record.last is not None:
        scores = {**known, one.spec.recipe.epochs: record.last.test_accuracy}  # the test images are those held out
        return Status(one, "finished", state.epochs_done, record.train_seconds, scores, record=record)
    standing: Standing = "failed" if state.kind == "failed" else "partial" if state.epochs_done else "new"
    scores, seconds = dict(known), 0.0
    values = read_json(work_folder(folder) / PROGRESS_FILE)
    try:
        seconds = float(values["seconds"])
        last = EpochMetrics.model_validate(values["metrics"])
        if last.epoch + 1 == state.epochs_done:  # later epochs are not in a checkpoint yet
            scores[state.epochs_done] = last.test_accuracy
    except (TypeError, KeyError, ValueError):  # not begun, no epoch yet, or cut off on a full disk
        pass
    return Status(one, standing, state.epochs_done, seconds, scores, state.reason, state.damaged)
