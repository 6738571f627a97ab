"""The experiment with Ray Tune that runs the trials of a queue. Importing this module loads Ray."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.trainable import wrap_function

from pipelines.cluster import HEAD, ray_environment, watch_for_sigterm
from pipelines.driver import StopRequest
from pipelines.schedule.callbacks import TuneCallback
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.searcher import QueueSearcher
from pipelines.schedule.stopper import GraceStopper
from pipelines.schedule.trainable import KEY
from pipelines.spec import Resources, TrialSpec

# Tune keeps one trial pending for a searcher that sets no limit, which would start trials one after another
_QUEUE_LIMITS = {"TUNE_MAX_PENDING_TRIALS_PG": "1000000"}
_LEADER = 0.001  # of the head's own resource: Tune wants a bundle for every trial


def make_trainable_class(trainable: Callable[[dict[str, Any]], None]) -> Any:
    """Return Tune's class for the trainable: each trial asks for its own resources, and leaves after SIGTERM.

    Tune makes the actor in its process's main thread, which alone may set a handler; the trial runs in another one.
    The class must stay small: Tune fetches and unpickles it anew for every trial that it starts.
    """

    def resources(config: dict[str, Any]) -> Any:
        wanted = Resources.model_validate(json.loads(config[KEY])["resources"])
        if wanted.across_nodes:  # with a CPU of its own it might keep its last worker waiting for ever
            return tune.PlacementGroupFactory([{HEAD: _LEADER}])
        # one bundle is on one machine, with all the GPUs that the trial's workers share
        bundle = {"CPU": wanted.cpus} | ({"GPU": wanted.gpus} if wanted.gpus else {})
        return tune.PlacementGroupFactory([bundle])

    base: Any = wrap_function(trainable)

    class Trial(base):  # type: ignore[misc]  # Ray is not typed
        def setup(self, config: dict[str, Any]) -> None:
            watch_for_sigterm()
            super().setup(config)

    return tune.with_resources(Trial, resources)


def run_trials(
    specs: Sequence[TrialSpec],
    queue: TrialQueue,
    trainable: Callable[[dict[str, Any]], None],
    callback: TuneCallback,
    *,
    folder: Path,
    stop: StopRequest,
    grace: float,
) -> None:
    """Run the queue's trials to their end. Tune starts none of them again: the queue hands out again what is to go on.

    Args:
        specs: the trials of the queue.
        queue: gives the trials.
        trainable: what Tune runs for each of them.
        callback: told what happens to them.
        folder: for Tune's files.
        stop: the request to stop; Tune ends after it.
        grace: seconds that the trials have to leave after the request.
    """
    # A fresh process costs some 4 s (torch, Ray). On a CPU a trial sets all that it depends on (threads, precision,
    # random states), so one process serves many trials, to the same bits (tests/commands/test_command_real.py). On a
    # GPU a process would keep the memory and the devices of its first trial.
    reuse = not any(spec.resources.gpus or spec.resources.across_nodes for spec in specs)
    tuner = tune.Tuner(
        make_trainable_class(trainable),
        tune_config=tune.TuneConfig(
            search_alg=QueueSearcher(queue, stop),
            num_samples=-1,  # until the searcher says that it has finished
            reuse_actors=reuse,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(folder / "tune"),  # nothing reads it again
            verbose=0,
            stop=GraceStopper(stop, callback.progress, grace),
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[callback],
        ),
    )
    if stop.requested:
        return
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it logs whole trials for what the display has a line for
    try:
        with ray_environment(_QUEUE_LIMITS):
            tuner.fit()
    except KeyboardInterrupt:  # the second one
        stop.request()
