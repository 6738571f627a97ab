"""The driver's ears in Tune: what happens to a trial becomes progress, and a request to stop ends the experiment.

Importing this module loads Ray. An exception in a Tune callback would mark a successful trial as failed, so none
leaves this module.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from ray import tune
from ray.tune.search import Searcher

from pipelines.cluster import MOST_UNFIT
from pipelines.driver import MAX_DEATHS, Display, Progress, State, StopRequest
from pipelines.schedule.failures import End, end_of_process
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.trainable import KEY
from pipelines.spec import TrialSpec
from pipelines.trial import blocked_by, doubled, format_share

log = logging.getLogger(__name__)
P = ParamSpec("P")


def _never_raise(function: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            log.exception("the display of a trial's progress failed")

    return guarded


class _DriverOnly:
    """Lives in the driver alone: Tune pickles its arguments for a restore that is never used."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _DriverOnly:
        return self


class TuneCallback(_DriverOnly, tune.Callback):  # type: ignore[misc]  # Ray is not typed
    """Turns Tune's events into progress, and decides whether a trial that lost its process is started again.

    With a queue Tune gives up every such trial, and it comes from the queue once more: next in line and, if need be,
    with other resources. Without one (a search) Tune starts it again, and is told to forget what does not count.

    Args:
        progress: the state to keep.
        display: told when a trial ends.
        on_finished: called with each trial that has ended, done or failed.
        queue: where the trials come from; told which of them have a process.
        most_deaths: times a trial is started again after an end that counts.
        give_up: called with each trial that is not started again, and the reason.
        stop: asked to end the run if machines keep sending trials back.
    """

    def __init__(
        self,
        progress: Progress,
        display: Display,
        on_finished: Callable[[TrialSpec], None] | None = None,
        queue: TrialQueue | None = None,
        *,
        most_deaths: int = MAX_DEATHS,
        give_up: Callable[[TrialSpec, str], None] | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self._progress = progress
        self._display = display
        self._on_finished = on_finished
        self._queue = queue
        self._most_deaths = most_deaths
        self._give_up = give_up
        self._stop = stop
        self.errors: dict[str, str] = {}
        self.unfit: list[str] = []  # what machines said that sent a trial back
        self._ids: dict[str, str] = {}

    @_never_raise
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Say what has become blocked, and let the display speak."""
        for spec in self._queue.take_blocked() if self._queue is not None else ():
            self._progress.end(spec.trial_id, "blocked", reason=self._why_blocked(spec))
            self._display.ended(self._progress.trials[spec.trial_id])
        self._display.tick()

    @_never_raise
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that the trial has its process."""
        self._progress.start(self._id(trial))
        if self._queue is not None:
            self._queue.started(self._id(trial))

    @_never_raise
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note an epoch, or the one from which the trial goes on."""
        if result.get("status") == "running":
            said = result.get("accuracy"), result.get("seconds")  # neither where it only says where it goes on
            self._progress.epoch(self._id(trial), result["epoch"], *said)

    @_never_raise
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note what the trial said last."""
        result = trial.last_result or {}
        self._end(self._id(trial), _end_of(result), result.get("accuracy"), result.get("reason"))

    @_never_raise
    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that the trial's process died and that Tune starts it again."""
        end = end_of_process(_error(trial))
        if not end.counts and end.kind != "share":  # it would come back with the same share
            trial.max_failures += 1
        self._goes_on(self._id(trial), end)

    @_never_raise
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Hand the trial out again, or note that it is given up."""
        key, end = self._id(trial), end_of_process(_error(trial))
        deaths = self._progress.trials[key].deaths
        if self._queue is None or (end.counts and deaths >= self._most_deaths):
            self._fail(key, f"{end.words} ({deaths + 1} attempt{'s' if deaths else ''})")
            return
        asked = self._queue.resources(key)
        if end.kind == "share":
            wider = doubled(asked)
            end = end._replace(
                words=f"{format_share(asked.gpus)} has too little memory for it; it gets {format_share(wider.gpus)}"
            )
            self._queue.again(key, wider)
        else:
            self._queue.again(key)
        self._goes_on(key, end)

    def _goes_on(self, key: str, end: End) -> None:
        self._progress.died(key, counts=end.counts)
        spec = self._progress.trials[key].spec
        self._display.note(f"{spec.table}/{spec.row} seed {spec.seed}: {end.words}; it goes on from its checkpoint")
        if end.kind == "unfit":
            self.unfit.append(end.words)
            if len(self.unfit) >= MOST_UNFIT and self._stop is not None:
                self._stop.request()

    def _fail(self, key: str, reason: str) -> None:
        self.errors[key] = reason
        if self._queue is not None:
            self._queue.ended(key, "failed")
        if self._give_up is not None:
            self._give_up(self._progress.trials[key].spec, reason)
        self._end(key, "failed", None, reason)

    def _end(self, key: str, state: State, accuracy: float | None, reason: str | None) -> None:
        self._progress.end(key, state, accuracy=accuracy, reason=reason)
        trial = self._progress.trials[key]
        if state != "stopped" or trial.epoch:  # those that had hardly begun are many, and lost nothing
            self._display.ended(trial)
        if self._on_finished is not None and state in ("done", "failed"):
            self._on_finished(trial.spec)

    def _why_blocked(self, spec: TrialSpec) -> str:
        parent = self._progress.trials[spec.parent_id or ""]
        reason = parent.reason or "unknown"
        return blocked_by(parent.spec, reason if parent.state == "blocked" else f"failed: {reason}")

    def _id(self, trial: Any) -> str:
        key = self._ids.get(trial.trial_id)
        if key is None:
            key = self._ids[trial.trial_id] = TrialSpec.model_validate_json(trial.config[KEY]).trial_id
        return key


def _error(trial: Any) -> BaseException | None:
    """Return what ended the trial's process; None if Tune could not keep it.

    Read where Tune writes it: its own ``get_pickled_error`` looks where the file is copied to when a run ends.
    """
    from ray import cloudpickle

    try:
        with Path(trial.pickled_error_file).open("rb") as file:
            error: BaseException = cloudpickle.load(file)
    except Exception:  # the file was cut off on a full disk
        return None
    return error


def _end_of(result: dict[str, Any] | None) -> State:
    """Return how a trial ended, by what it reported last."""
    status = (result or {}).get("status")
    return status if status in ("done", "failed", "blocked") else "stopped"


class QueueSearcher(_DriverOnly, Searcher):  # type: ignore[misc]  # Ray is not typed
    """Gives Tune the queue's trials, as searchers give it configurations.

    Tune asks in every step of its loop. None is taken for "later", and FINISHED for "no more": with nothing at work
    it would wait for ever for a trial that never comes, so the queue always has one then or is empty.
    """

    def __init__(self, queue: TrialQueue, stop: StopRequest) -> None:
        super().__init__()
        self._queue = queue
        self._stop = stop
        self._keys: dict[str, str] = {}  # Tune's trial ids -> ours

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """Return the configuration of the next trial."""
        if self._queue.empty or self._stop.requested:
            finished: str = Searcher.FINISHED
            return finished
        spec = self._queue.next()
        if spec is None:
            return None
        self._keys[trial_id] = spec.trial_id
        return {KEY: spec.model_dump_json()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Free what waits for the trial; Tune calls this before the callback, which decides after an error."""
        if not error:
            self._queue.ended(self._keys[trial_id], _end_of(result))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: no run of Tune's is ever restored."""


class GraceStopper(_DriverOnly, tune.Stopper):  # type: ignore[misc]  # Ray is not typed
    """Ends the experiment after a request: once the trials that ran then have left, or when the grace is over."""

    def __init__(self, stop: StopRequest, progress: Progress, grace_seconds: float) -> None:
        self._stop = stop
        self._progress = progress
        self._grace = grace_seconds
        self._waited_for: set[str] | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never stop a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether everything should end now."""
        if not self._stop.requested:
            return False
        running = {trial.spec.trial_id for trial in self._progress.running()}
        if self._waited_for is None:
            self._waited_for = running
        return not (self._waited_for & running) or self._stop.seconds > self._grace
