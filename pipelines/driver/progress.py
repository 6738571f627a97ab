"""How far a run is: the state of every trial, and what follows for each row. Knows nothing of Ray or screens."""

from __future__ import annotations

import threading
import time
from collections import Counter
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
    deaths: int = 0  # times that it was started again and that count against it
    started: float = field(default_factory=time.monotonic)

    @property
    def epochs_left(self) -> int:
        """Epochs still to be trained."""
        return 0 if self.state in _NO_MORE else max(0, self.spec.last_epoch - self.epoch)


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

    It is asked several times a second and told of every epoch, so what was worked out of a row is kept until one of
    its trials, or one that they wait for, has changed.

    Args:
        specs: the trials to be run.
        done_before: seeds per (table, row) that were done when the run began.
        seconds: estimated seconds of a trial per (table, row), where the plan knows them.
        epochs_before: epochs of a trial by its id that were done when the run began, where there are any.
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
        self._counts: Counter[State] = Counter(trial.state for trial in self.trials.values())
        self._running: dict[str, int] = {}  # ids -> place among the trials
        self._places = {trial_id: place for place, trial_id in enumerate(self.trials)}
        self._members: dict[RowKey, list[TrialProgress]] = {}
        self._dependants: dict[RowKey, set[RowKey]] = {}  # rows whose trials wait for this one's
        for trial in self.trials.values():
            self._members.setdefault(_row_of(trial.spec), []).append(trial)
            parent = self.trials.get(trial.spec.parent_id or "")
            if parent is not None:
                self._dependants.setdefault(_row_of(parent.spec), set()).add(_row_of(trial.spec))
        self._known: dict[RowKey, RowProgress] = {}
        self._epoch_seconds: dict[RowKey, float | None] = {}  # mean of the row's trials
        self._longest: dict[RowKey, float] = {}  # seconds until the row's last trial has ended, at the least

    def start(self, trial_id: str) -> None:
        """Note that a trial got its process."""
        with self._lock:
            trial = self._put(trial_id, "running")
            trial.started = time.monotonic()

    def epoch(
        self, trial_id: str, epochs_done: int, accuracy: float | None = None, epoch_seconds: float | None = None
    ) -> None:
        """Note a finished epoch, or the one from which a trial goes on; None leaves the rest as it was."""
        with self._lock:
            trial = self._put(trial_id)
            trial.epoch = epochs_done
            trial.accuracy = trial.accuracy if accuracy is None else accuracy
            trial.epoch_seconds = trial.epoch_seconds if epoch_seconds is None else epoch_seconds

    def restarted(self, trial_id: str, *, counts: bool = True) -> None:
        """Note that a trial lost its process and is started again, and whether that counts against it."""
        with self._lock:
            trial = self._put(trial_id, "waiting")
            trial.deaths += counts

    def end(self, trial_id: str, state: State, *, accuracy: float | None = None, reason: str | None = None) -> None:
        """Note a trial's end."""
        with self._lock:
            trial = self._put(trial_id, state)
            trial.reason = reason
            if accuracy is not None:
                trial.accuracy = accuracy

    def running(self) -> list[TrialProgress]:
        """Return the trials that run now."""
        with self._lock:
            return [self.trials[trial_id] for trial_id in sorted(self._running, key=self._running.__getitem__)]

    def count(self, state: State) -> int:
        """Return how many trials are in the state."""
        with self._lock:
            return self._counts[state]

    def rows(self) -> list[RowProgress]:
        """Return the rows, in the order in which they first came."""
        with self._lock:
            for key, trials in self._members.items():
                if key not in self._known:
                    self._known[key] = self._row(key, trials)
            return [self._known[key] for key in self._members]

    def seconds_left(self) -> float | None:
        """Return the time left at the present number of trials at once; None while nothing is known."""
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
        """Return how many trials cannot start before another one has ended."""
        with self._lock:
            return sum(self._parent_at_work(trial) is not None for trial in self.trials.values())

    def _put(self, trial_id: str, state: State | None = None) -> TrialProgress:
        """Return the trial, in the state if one is given; what was worked out of its row is forgotten."""
        trial = self.trials[trial_id]
        if state is not None:
            self._counts[trial.state] -= 1
            self._counts[state] += 1
            trial.state = state
            if state == "running":
                self._running[trial_id] = self._places[trial_id]
            else:
                self._running.pop(trial_id, None)
        self._forget(_row_of(trial.spec))
        return trial

    def _forget(self, key: RowKey) -> None:
        self._known.pop(key, None)
        self._epoch_seconds.pop(key, None)
        self._longest.pop(key, None)
        for row in self._dependants.get(key, ()):
            if row != key:
                self._forget(row)

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
        key = _row_of(trial.spec)
        measured = self._measured(key)
        if measured is not None:
            return trial.epochs_left * measured
        planned = self._seconds.get(key)
        return None if planned is None else planned * trial.epochs_left / trial.spec.recipe.epochs

    def _measured(self, key: RowKey) -> float | None:
        """Return the mean seconds of an epoch of the row's trials; None before the first one."""
        if key not in self._epoch_seconds:
            found = [trial.epoch_seconds for trial in self._members[key] if trial.epoch_seconds is not None]
            self._epoch_seconds[key] = sum(found) / len(found) if found else None
        return self._epoch_seconds[key]


def _row_of(spec: TrialSpec) -> RowKey:
    return spec.table, spec.row
