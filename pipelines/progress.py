"""How far a run is: the state of every trial, and what follows for each row. Knows nothing of Ray or screens."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipelines.spec import TrialSpec

State = Literal["waiting", "running", "done", "failed", "stopped", "blocked"]
RowKey = tuple[str, str]
_NO_MORE = ("done", "failed", "blocked")


@dataclass
class TrialProgress:
    """One trial as the driver sees it."""

    spec: TrialSpec
    state: State = "waiting"
    epoch: int = 0  # epochs finished
    accuracy: float | None = None  # on the test set, a fraction
    epoch_seconds: float | None = None  # mean of an epoch
    reason: str | None = None
    deaths: int = 0  # times its process died and it was started again
    started: float = field(default_factory=time.monotonic)

    @property
    def epochs_left(self) -> int:
        """Epochs still to be trained."""
        return 0 if self.state in _NO_MORE else max(0, self.spec.recipe.epochs - self.epoch)


@dataclass(frozen=True)
class RowProgress:
    """One row of the live table."""

    table: str
    row: str
    planned: int
    done: int
    failed: int
    blocked: int  # what they start from failed
    running: int
    epoch: int  # of the running trial that is furthest
    epochs: int
    accuracy: float | None  # mean over seeds that have one, a fraction
    seconds_left: float | None  # of one processor's time
    waits_for: str | None = None  # row whose trials must end before any of this one's goes on


class Progress:
    """The state of every trial of a run. Safe to read from another thread.

    Args:
        specs: the trials to be run.
        done_before: seeds per (table, row) that were done when the run began.
        seconds: estimated seconds of a trial per (table, row), where the plan knows them.
    """

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        done_before: Mapping[RowKey, int] | None = None,
        seconds: Mapping[RowKey, float] | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self.trials = {spec.trial_id: TrialProgress(spec) for spec in specs}
        self._before = dict(done_before or {})
        self._seconds = dict(seconds or {})
        self.started = time.monotonic()

    def start(self, trial_id: str) -> None:
        """Note that a trial got its process."""
        with self._lock:
            trial = self.trials[trial_id]
            trial.state, trial.started = "running", time.monotonic()

    def epoch(self, trial_id: str, epochs_done: int, accuracy: float, epoch_seconds: float) -> None:
        """Note a finished epoch."""
        with self._lock:
            trial = self.trials[trial_id]
            trial.epoch, trial.accuracy, trial.epoch_seconds = epochs_done, accuracy, epoch_seconds

    def died(self, trial_id: str) -> None:
        """Note that a trial's process died and that it is started again."""
        with self._lock:
            trial = self.trials[trial_id]
            trial.state, trial.deaths = "waiting", trial.deaths + 1

    def end(self, trial_id: str, state: State, *, accuracy: float | None = None, reason: str | None = None) -> None:
        """Note a trial's end."""
        with self._lock:
            trial = self.trials[trial_id]
            trial.state, trial.reason = state, reason
            if accuracy is not None:
                trial.accuracy = accuracy

    def running(self) -> list[TrialProgress]:
        """Return the trials that run now."""
        with self._lock:
            return [trial for trial in self.trials.values() if trial.state == "running"]

    def count(self, state: State) -> int:
        """Return how many trials are in the state."""
        with self._lock:
            return sum(trial.state == state for trial in self.trials.values())

    def rows(self) -> list[RowProgress]:
        """Return the rows, in the order in which they first came."""
        with self._lock:
            grouped: dict[RowKey, list[TrialProgress]] = {}
            for trial in self.trials.values():
                grouped.setdefault((trial.spec.table, trial.spec.row), []).append(trial)
            return [self._row(key, trials) for key, trials in grouped.items()]

    def seconds_left(self) -> float | None:
        """Return the time left at the present number of trials at once; None while nothing is known."""
        with self._lock:
            rows = self.rows()
            known = [row.seconds_left for row in rows if row.seconds_left is not None]
            at_once = self.count("running")
            if len(known) < len(rows) or not at_once:
                return None
            slots = min(at_once, max(1, self.count("running") + self.count("waiting")))
            longest = max((self._chain_left(trial) for trial in self.trials.values()), default=0.0)
            return max(sum(known) / slots, longest)

    def waiting_for_parents(self) -> int:
        """Return how many trials cannot start before another one has ended."""
        with self._lock:
            return sum(self._parent_at_work(trial) is not None for trial in self.trials.values())

    def _parent_at_work(self, trial: TrialProgress) -> TrialProgress | None:
        """Return the parent that a waiting trial waits for; None if it can start, or started long ago."""
        parent = self.trials.get(trial.spec.parent_id or "")
        return parent if trial.state == "waiting" and parent is not None and parent.state != "done" else None

    def _chain_left(self, trial: TrialProgress) -> float:
        """Return the seconds until the trial has ended, if it and what it waits for never wait for a machine."""
        parent = self._parent_at_work(trial)
        return (self._left(trial) or 0.0) + (self._chain_left(parent) if parent is not None else 0.0)

    def _row(self, key: RowKey, trials: list[TrialProgress]) -> RowProgress:
        running = [trial for trial in trials if trial.state == "running"]
        scores = [trial.accuracy for trial in trials if trial.accuracy is not None and trial.state != "failed"]
        left = [self._left(trial) for trial in trials]
        before = self._before.get(key, 0)
        waiting = [trial for trial in trials if trial.state == "waiting"]
        parents = [self._parent_at_work(trial) for trial in waiting]
        awaited = parents[0] if parents and None not in parents and not running else None
        return RowProgress(
            table=key[0],
            row=key[1],
            planned=before + len(trials),
            done=before + sum(trial.state == "done" for trial in trials),
            failed=sum(trial.state == "failed" for trial in trials),
            blocked=sum(trial.state == "blocked" for trial in trials),
            running=len(running),
            epoch=max((trial.epoch for trial in running), default=0),
            epochs=max(trial.spec.recipe.epochs for trial in trials),
            accuracy=sum(scores) / len(scores) if scores else None,
            seconds_left=None if None in left else sum(seconds for seconds in left if seconds is not None),
            waits_for=f"{awaited.spec.table}/{awaited.spec.row}" if awaited is not None else None,
        )

    def _left(self, trial: TrialProgress) -> float | None:
        """Return the trial's own seconds left: by its row's measured epochs, else by the plan."""
        if not trial.epochs_left:
            return 0.0
        key = (trial.spec.table, trial.spec.row)
        measured = [
            other.epoch_seconds
            for other in self.trials.values()
            if other.epoch_seconds is not None and (other.spec.table, other.spec.row) == key
        ]
        if measured:
            return trial.epochs_left * sum(measured) / len(measured)
        planned = self._seconds.get(key)
        return None if planned is None else planned * trial.epochs_left / trial.spec.recipe.epochs
