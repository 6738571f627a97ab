"""How Tune gets its trials: from our queue, as searchers give it configurations. Importing this module loads Ray."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher
from typing_extensions import override

from pipelines.driver import StopRequest
from pipelines.schedule.driver_only import DriverOnly
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.trainable import KEY, state_of


class QueueSearcher(DriverOnly, Searcher):  # type: ignore[misc]  # Ray is not typed
    """Gives Tune the queue's trials.

    Tune asks in every step of its loop; None means "later", FINISHED means "no more". With no trial running it would
    wait for ever for one that never comes, so the queue always has one then or is empty.
    """

    def __init__(self, queue: TrialQueue, stop: StopRequest) -> None:
        super().__init__()
        self._queue = queue
        self._stop = stop
        self._keys: dict[str, str] = {}  # Tune's trial ids -> ours

    @override
    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        if self._queue.empty or self._stop.requested:
            finished: str = Searcher.FINISHED
            return finished
        spec = self._queue.next()
        if spec is None:
            return None
        self._keys[trial_id] = spec.trial_id
        return {KEY: spec.model_dump_json()}

    @override
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # else the callback decides, which Tune calls next
            self._queue.ended(self._keys[trial_id], state_of(result))

    @override
    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass  # no run of Tune's is ever restored
