"""What every Tune experiment of ours has in common. Importing this module loads Ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.trainable import wrap_function

from pipelines.cluster import HEAD, watch_for_sigterm
from pipelines.driver import GRACE_SECONDS, MAX_DEATHS, Progress, StopRequest
from pipelines.schedule.callbacks import GraceStopper, TuneCallback
from pipelines.schedule.trainable import KEY
from pipelines.spec import Resources, TrialSpec

_LEADS = 0.001  # of the head: a mark, so that the trial has a bundle at all


def with_resources(trainable: Callable[[dict[str, Any]], None]) -> Any:
    """Return the trainable with each trial asking for its own resources, in a process that takes SIGTERM as a wish.

    Tune makes the actor in its process's main thread, which alone may set a handler; the trial runs in another one.
    What is returned must stay small: Tune fetches and unpickles it anew for every trial that it starts.
    """

    def resources(config: dict[str, Any]) -> Any:
        wanted = Resources.model_validate(json.loads(config[KEY])["resources"])
        if wanted.across_nodes:  # it only leads; with a CPU of its own it might keep its last worker waiting for ever
            return tune.PlacementGroupFactory([{HEAD: _LEADS}])
        # one bundle is on one machine, with all the GPUs that the trial's workers share
        bundle = {"CPU": wanted.cpus} | ({"GPU": wanted.gpus} if wanted.gpus else {})
        return tune.PlacementGroupFactory([bundle])

    base: Any = wrap_function(trainable)

    class Leaving(base):  # type: ignore[misc]  # Ray is not typed
        def setup(self, config: dict[str, Any]) -> None:
            watch_for_sigterm()
            super().setup(config)

    return tune.with_resources(Leaving, resources)


def tune_config(specs: Sequence[TrialSpec], **how: Any) -> Any:
    """Return the settings of the scheduling; ``how`` says in what order trials come and who goes on.

    A fresh process costs some 4 s (torch, Ray). On a CPU a trial sets all that it depends on (threads, precision,
    random states), so one process serves many trials, to the same bits
    (tests/commands/test_command_real.py). On a GPU a process would keep the memory and the devices of its first trial.
    """
    return tune.TuneConfig(
        reuse_actors=not any(spec.resources.gpus or spec.resources.across_nodes for spec in specs),
        trial_name_creator=lambda trial: trial.trial_id,
        trial_dirname_creator=lambda trial: trial.trial_id,
        **how,
    )


def run_config(
    name: str,
    folder: Path,
    stop: StopRequest,
    progress: Progress,
    watcher: TuneCallback,
    retries: int = MAX_DEATHS,
    grace: float = GRACE_SECONDS,
) -> Any:
    """Return the settings of the run: a storage folder that nobody reads again, Tune's own retries, and our ears."""
    return tune.RunConfig(
        name=name,
        storage_path=str(folder / "tune"),
        verbose=0,
        stop=GraceStopper(stop, progress, grace),
        failure_config=tune.FailureConfig(max_failures=retries),
        callbacks=[watcher],
    )
