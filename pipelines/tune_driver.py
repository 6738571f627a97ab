"""The driver's ears in Tune: what happens to a trial becomes progress, and a request to stop ends the experiment.

Importing this module loads Ray. An exception in a Tune callback would mark a successful trial as failed, so none
leaves this module.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec

from ray import tune
from ray.exceptions import RayActorError

from pipelines.live_table import Display
from pipelines.progress import Progress, State
from pipelines.spec import TrialSpec
from pipelines.stop_request import StopRequest
from pipelines.tune_worker import KEY

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


class Watcher(_DriverOnly, tune.Callback):  # type: ignore[misc]  # Ray is not typed
    """Turns Tune's events into progress.

    Args:
        progress: the state to keep.
        display: told when a trial ends.
        on_finished: called with each trial that has ended, done or failed.
    """

    def __init__(
        self, progress: Progress, display: Display, on_finished: Callable[[TrialSpec], None] | None = None
    ) -> None:
        self._progress = progress
        self._display = display
        self._on_finished = on_finished
        self.errors: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    @_never_raise
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Let the display speak."""
        self._display.tick()

    @_never_raise
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that the trial has its process."""
        self._progress.start(self._id(trial))

    @_never_raise
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note an epoch."""
        if result.get("status") == "running":
            self._progress.epoch(self._id(trial), result["epoch"], result["accuracy"], result["seconds"])

    @_never_raise
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note what the trial said last."""
        result = trial.last_result or {}
        status = result.get("status")
        state: State = status if status in ("done", "failed") else "stopped"
        self._end(self._id(trial), state, result.get("accuracy"), result.get("reason"))

    @_never_raise
    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that the trial's process died; Tune starts it again."""
        key = self._id(trial)
        self._progress.died(key)
        spec = self._progress.trials[key].spec
        why = _why(trial)
        self._display.note(f"{spec.table}/{spec.row} seed {spec.seed}: {why}; it goes on from its checkpoint")

    @_never_raise
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that the trial is given up."""
        key = self._id(trial)
        attempts = self._progress.trials[key].deaths + 1
        self.errors[key] = f"{_why(trial)} ({attempts} attempts)"
        self._end(key, "failed", None, self.errors[key])

    def _end(self, key: str, state: State, accuracy: float | None, reason: str | None) -> None:
        self._progress.end(key, state, accuracy=accuracy, reason=reason)
        trial = self._progress.trials[key]
        if state != "stopped" or trial.epoch:  # those that had hardly begun are many, and lost nothing
            self._display.ended(trial)
        if self._on_finished is not None and state != "stopped":
            self._on_finished(trial.spec)

    def _id(self, trial: Any) -> str:
        key = self._ids.get(trial.trial_id)
        if key is None:
            key = self._ids[trial.trial_id] = TrialSpec.model_validate_json(trial.config[KEY]).trial_id
        return key


def _why(trial: Any) -> str:
    """Return in a few words why a trial's process ended without a record."""
    try:
        error = trial.get_pickled_error() or trial.get_error()
    except Exception:  # the file was cut off on a full disk
        error = None
    if error is None or isinstance(error, RayActorError):
        return "its process died (killed, out of memory, or its machine was lost)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]


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
