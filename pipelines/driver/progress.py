"""The progress of a run: the state of every trial and of each row. Independent of Ray and of screens."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipelines.spec import RowKey, TrialSpec

ProgressState = Literal["waiting", "running", "done", "failed", "stopped", "blocked"]
_FINAL = ("done", "failed", "blocked")


@dataclass
class TrialProgress:
    """The progress of one trial, as the driver knows it."""

    spec: TrialSpec
    state: ProgressState = "waiting"
    epoch: int = 0  # epochs finished
    accuracy: float | None = None  # on the test set, a fraction
    epoch_seconds: float | None = None  # mean of an epoch
    reason: str | None = None
    deaths: int = 0  # restarts that count against it
    started: float = field(default_factory=time.monotonic)

    @property
    def epochs_left(self) -> int:
        """Epochs still to be trained."""
        return 0 if self.state in _FINAL else max(0, self.spec.last_epoch - self.epoch)


@dataclass(frozen=True)
class RowProgress:
    """The progress of one row."""

    table: str
    row: str
    planned: int
    done: int
    failed: int
    blocked: int  # their parents failed
    running: int
    epoch: int  # of the running trial that is furthest
    epochs: int
    accuracy: float | None  # mean over seeds that have one, a fraction
    seconds_left: float | None  # of one processor's time
    waits_for: str | None = None  # row whose trials must end before any of this row's can start


class Progress:
    """The progress of every trial of a run. Safe to read from another thread.

    It is read several times a second and updated every epoch, so a row's values are cached until one of its trials, or
    a trial that they wait for, changes.

    Args:
        specs: the trials to run.
        done_before: finished seeds of a row when the run began.
        seconds: estimated seconds of a trial of a row, where the plan knows them.
        epochs_before: finished epochs of a trial, by its id, when the run began.
    """

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        done_before: Mapping[RowKey, int] | None = None,
        seconds: Mapping[RowKey, float] | None = None,
        epochs_before: Mapping[str, int] | None = None,
    ) -> None:
        self._lock = threading.RLock()
        before = epochs_before or {}
        self.trials = {spec.trial_id: TrialProgress(spec, epoch=before.get(spec.trial_id, 0)) for spec in specs}
        self._before = dict(done_before or {})
        self._seconds = dict(seconds or {})
        self.started = time.monotonic()
        self._counts: Counter[ProgressState] = Counter(trial.state for trial in self.trials.values())
        self._running: dict[str, int] = {}  # ids -> place among the trials
        self._places = {trial_id: place for place, trial_id in enumerate(self.trials)}
        self._members: dict[RowKey, list[TrialProgress]] = {}
        self._dependants: dict[RowKey, set[RowKey]] = {}  # rows whose trials wait for this row's
        for trial in self.trials.values():
            self._members.setdefault(trial.spec.row_key, []).append(trial)
            parent = self.trials.get(trial.spec.parent_id or "")
            if parent is not None:
                self._dependants.setdefault(parent.spec.row_key, set()).add(trial.spec.row_key)
        self._known: dict[RowKey, RowProgress] = {}
        self._epoch_seconds: dict[RowKey, float | None] = {}  # mean over the row's trials
        self._longest: dict[RowKey, float] = {}  # least seconds until the row's last trial ends

    def start(self, trial_id: str) -> None:
        """Note that the process of a trial started."""
        with self._lock:
            trial = self._put(trial_id, "running")
            trial.started = time.monotonic()

    def epoch(
        self, trial_id: str, epochs_done: int, accuracy: float | None = None, epoch_seconds: float | None = None
    ) -> None:
        """Note a finished epoch, or the epoch from which a trial resumes; None leaves a value unchanged."""
        with self._lock:
            trial = self._put(trial_id)
            trial.epoch = epochs_done
            trial.accuracy = trial.accuracy if accuracy is None else accuracy
            trial.epoch_seconds = trial.epoch_seconds if epoch_seconds is None else epoch_seconds

    def restarted(self, trial_id: str, *, counts: bool = True) -> None:
        """Note that a trial lost its process and restarts, and whether that counts against it."""
        with self._lock:
            trial = self._put(trial_id, "waiting")
            trial.deaths += counts

    def end(
        self, trial_id: str, state: ProgressState, *, accuracy: float | None = None, reason: str | None = None
    ) -> None:
        """Note the end of a trial."""
        with self._lock:
            trial = self._put(trial_id, state)
            trial.reason = reason
            if accuracy is not None:
                trial.accuracy = accuracy

    def running(self) -> list[TrialProgress]:
        """Return the running trials."""
        with self._lock:
            return [self.trials[trial_id] for trial_id in sorted(self._running, key=self._running.__getitem__)]

    def count(self, state: ProgressState) -> int:
        """Return how many trials are in the state."""
        with self._lock:
            return self._counts[state]

    def rows(self) -> list[RowProgress]:
        """Return the rows, in the order of the trials."""
        with self._lock:
            for key, trials in self._members.items():
                if key not in self._known:
                    self._known[key] = self._row(key, trials)
            return [self._known[key] for key in self._members]

    def seconds_left(self) -> float | None:
        """Return the seconds left with as many trials at once as now; None while unknown."""
        with self._lock:
            rows = self.rows()
            known = [row.seconds_left for row in rows if row.seconds_left is not None]
            at_once = self.count("running")
            if len(known) < len(rows) or not at_once:
                return None
            slots = min(at_once, max(1, self.count("running") + self.count("waiting")))
            for key, trials in self._members.items():
                if key not in self._longest:
                    self._longest[key] = max(self._chain_left(trial) for trial in trials)
            return max(sum(known) / slots, max(self._longest.values(), default=0.0))

    def waiting_for_parents(self) -> int:
        """Return how many trials wait for their parents."""
        with self._lock:
            return sum(self._parent_at_work(trial) is not None for trial in self.trials.values())

    def _put(self, trial_id: str, state: ProgressState | None = None) -> TrialProgress:
        """Return the trial, in the state if one is given, and drop its row's cached values."""
        trial = self.trials[trial_id]
        if state is not None:
            self._counts[trial.state] -= 1
            self._counts[state] += 1
            trial.state = state
            if state == "running":
                self._running[trial_id] = self._places[trial_id]
            else:
                self._running.pop(trial_id, None)
        self._forget(trial.spec.row_key)
        return trial

    def _forget(self, key: RowKey) -> None:
        self._known.pop(key, None)
        self._epoch_seconds.pop(key, None)
        self._longest.pop(key, None)
        for row in self._dependants.get(key, ()):
            if row != key:
                self._forget(row)

    def _parent_at_work(self, trial: TrialProgress) -> TrialProgress | None:
        """Return the parent that a waiting trial waits for; None if it can start or has started."""
        parent = self.trials.get(trial.spec.parent_id or "")
        return parent if trial.state == "waiting" and parent is not None and parent.state != "done" else None

    def _chain_left(self, trial: TrialProgress) -> float:
        """Return the seconds until the trial ends, if neither it nor its parents wait for a machine."""
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
            waits_for=awaited.spec.row_name if awaited is not None else None,
        )

    def _left(self, trial: TrialProgress) -> float | None:
        """Return the seconds left of the trial itself: by its row's measured epochs, or by the plan."""
        if not trial.epochs_left:
            return 0.0
        key = trial.spec.row_key
        measured = self._measured(key)
        if measured is not None:
            return trial.epochs_left * measured
        planned = self._seconds.get(key)
        return None if planned is None else planned * trial.epochs_left / trial.spec.recipe.epochs

    def _measured(self, key: RowKey) -> float | None:
        """Return the mean seconds per epoch of the row's trials; None before the first epoch."""
        if key not in self._epoch_seconds:
            found = [trial.epoch_seconds for trial in self._members[key] if trial.epoch_seconds is not None]
            self._epoch_seconds[key] = sum(found) / len(found) if found else None
        return self._epoch_seconds[key]
