"""What happens to trials, as Tune tells the driver: it becomes progress, and a lost process is replaced.

Importing this module loads Ray. An exception in a Tune callback would mark a successful trial as failed, so none
leaves this module.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec

from ray import tune
from typing_extensions import override

from pipelines.cluster import MAX_SENT_BACK, error_of_trial
from pipelines.driver import Display, Progress, ProgressState, StopRequest
from pipelines.schedule.driver_only import DriverOnly
from pipelines.schedule.failures import ProcessEnd, end_of_process
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.trainable import KEY, state_of
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


class TuneCallback(DriverOnly, tune.Callback):  # type: ignore[misc]  # Ray is not typed
    """Turns Tune's events into progress, and decides whether a trial that lost its process is started again.

    Tune gives up every such trial, and the queue hands it out again: next in line and, if need be, with other
    resources.

    Args:
        progress: the state to keep.
        display: shows when a trial ends.
        queue: where the trials come from; told which of them have a process.
        on_finished: called with each trial that has ended, done or failed.
        max_failures: times a trial is started again after an end that counts.
        give_up: called with each trial that is not started again, and the reason.
        stop: asked to end the run if machines keep sending trials back.
    """

    def __init__(
        self,
        progress: Progress,
        display: Display,
        queue: TrialQueue,
        *,
        on_finished: Callable[[TrialSpec], None] | None = None,
        max_failures: int,
        give_up: Callable[[TrialSpec, str], None],
        stop: StopRequest,
    ) -> None:
        self.progress = progress
        self._display = display
        self._on_finished = on_finished
        self._queue = queue
        self._max_failures = max_failures
        self._give_up = give_up
        self._stop = stop
        self.errors: dict[str, str] = {}
        self.sent_back: list[str] = []  # why machines sent trials back
        self._ids: dict[str, str] = {}

    @override
    @_never_raise
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        for spec in self._queue.take_blocked():
            self.progress.end(spec.trial_id, "blocked", reason=self._why_blocked(spec))
            self._display.ended(self.progress.trials[spec.trial_id])
        self._display.tick()

    @override
    @_never_raise
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.progress.start(self._id(trial))
        self._queue.started(self._id(trial))

    @override
    @_never_raise
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("status") == "running":  # with neither figure where it only reports from which epoch it goes on
            self.progress.epoch(self._id(trial), result["epoch"], result.get("accuracy"), result.get("seconds"))

    @override
    @_never_raise
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        self._end(self._id(trial), state_of(result), result.get("accuracy"), result.get("reason"))

    @override
    @_never_raise
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key, end = self._id(trial), end_of_process(error_of_trial(trial))
        deaths = self.progress.trials[key].deaths
        if end.counts and deaths >= self._max_failures:
            self._fail(key, f"{end.reason} ({deaths + 1} attempt{'s' if deaths else ''})")
            return
        asked = self._queue.resources(key)
        if end.kind == "small share":
            share, asked = asked.gpus, doubled(asked)
            reason = f"{format_share(share)} has too little memory for it; it gets {format_share(asked.gpus)}"
            end = end._replace(reason=reason)
        self._queue.requeue(key, asked)
        self._goes_on(key, end)

    def _goes_on(self, key: str, end: ProcessEnd) -> None:
        self.progress.restarted(key, counts=end.counts)
        spec = self.progress.trials[key].spec
        self._display.note(f"{spec.table}/{spec.row} seed {spec.seed}: {end.reason}; it goes on from its checkpoint")
        if end.kind == "unusable node":
            self.sent_back.append(end.reason)
            if len(self.sent_back) >= MAX_SENT_BACK:
                self._stop.request()

    def _fail(self, key: str, reason: str) -> None:
        self.errors[key] = reason
        self._queue.ended(key, "failed")
        self._give_up(self.progress.trials[key].spec, reason)
        self._end(key, "failed", None, reason)

    def _end(self, key: str, state: ProgressState, accuracy: float | None, reason: str | None) -> None:
        self.progress.end(key, state, accuracy=accuracy, reason=reason)
        trial = self.progress.trials[key]
        if state != "stopped" or trial.epoch:  # those that had hardly begun are many, and lost nothing
            self._display.ended(trial)
        if self._on_finished is not None and state in ("done", "failed"):
            self._on_finished(trial.spec)

    def _why_blocked(self, spec: TrialSpec) -> str:
        parent = self.progress.trials[spec.parent_id or ""]
        reason = parent.reason or "unknown"
        return blocked_by(parent.spec, reason if parent.state == "blocked" else f"failed: {reason}")

    def _id(self, trial: Any) -> str:
        key = self._ids.get(trial.trial_id)
        if key is None:
            key = self._ids[trial.trial_id] = TrialSpec.model_validate_json(trial.config[KEY]).trial_id
        return key
