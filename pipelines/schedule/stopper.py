"""When a run of Tune ends after a request to stop. Importing this module loads Ray."""

from __future__ import annotations

from typing import Any

from ray import tune
from typing_extensions import override

from pipelines.driver import Progress, StopRequest
from pipelines.schedule.driver_only import DriverOnly


class GraceStopper(DriverOnly, tune.Stopper):  # type: ignore[misc]  # Ray is not typed
    """Ends the experiment after a request: once the trials that ran then have ended, or after the grace period."""

    def __init__(self, stop: StopRequest, progress: Progress, grace_seconds: float) -> None:
        self._stop = stop
        self._progress = progress
        self._grace = grace_seconds
        self._waited_for: set[str] | None = None

    @override
    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # never a single trial

    @override
    def stop_all(self) -> bool:
        if not self._stop.requested:
            return False
        running = {trial.spec.trial_id for trial in self._progress.running()}
        if self._waited_for is None:
            self._waited_for = running
        return not (self._waited_for & running) or self._stop.seconds > self._grace
