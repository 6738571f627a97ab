"""What runs in Ray's worker process: one trial, its epochs reported to the driver as a few numbers.

Nothing that counts goes through Ray: the result lies in the store, and a report only feeds the display.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import Hooks
from pipelines.cluster import DRAINED, Leaving, Preempted, VisibilityProbe, at_work, why_leave
from pipelines.spec import TrialSpec
from pipelines.storage import Staging
from pipelines.store import Store
from pipelines.trial import RunTrial, TrialBlockedError, run_spec

KEY = "trial"
"""The one key of a Tune configuration: the trial's specification as JSON."""

# a report waits for the driver; many short epochs need not all be told
_REPORT_SECONDS = 0.5


def spec_of(config: dict[str, Any]) -> TrialSpec:
    """Return the trial of a Tune configuration, on the device that Ray gave this process."""
    spec = TrialSpec.model_validate_json(config[KEY])
    if spec.resources.gpus and spec.execution.device.startswith("cuda"):
        # Ray shows the process its own share only: its first device, or those of its workers by their ranks
        spec = spec.model_copy(update={"execution": spec.execution.model_copy(update={"device": "cuda"})})
    return spec


def trainer_of(spec: TrialSpec, stop_file: Path | None, train: str) -> str | RunTrial:
    """Return what trains the trial: on one machine ``train`` does, which starts all workers; else Ray Train leads."""
    if not spec.resources.across_nodes:
        return train
    assert stop_file is not None, "workers on several machines meet in a folder that all of them see"
    from pipelines.schedule.multi_node import MultiNodeTrainer

    return MultiNodeTrainer(spec.resources, stop_file.parent / "train", train)


def make_trainable(
    depot: Staging, train: str, sight: VisibilityProbe | None = None
) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune runs for each trial.

    Args:
        depot: how its process reaches the results folder.
        train: the function that trains, as ``module:name``.
        sight: what its machine must see, looked for before the trial starts; None on the driver's own machine.
    """

    def train_trial(config: dict[str, Any]) -> None:
        from ray import tune

        spec = spec_of(config)
        told = time.monotonic()  # a trial of less than half a second tells its end alone
        accuracy: float | None = None  # after the last epoch that this process trained

        def on_epoch(metrics: EpochMetrics) -> None:
            nonlocal told, accuracy
            accuracy = metrics.test_accuracy
            if time.monotonic() - told >= _REPORT_SECONDS:
                told = time.monotonic()
                values = {"epoch": metrics.epoch + 1, "accuracy": metrics.test_accuracy, "seconds": metrics.seconds}
                tune.report({"status": "running", **values})

        try:
            if sight is not None:
                sight.check(spec)
            trainer = trainer_of(spec, depot.stop_file, train)
            with at_work(), depot.open(spec) as (here, should_stop):
                if (epochs_done := Store(here.results_dir).epochs_done(here)) > 0:
                    tune.report({"status": "running", "epoch": epochs_done})  # from here it goes on
                record, all_stop = train_until_told(here, on_epoch, should_stop, trainer)
                paused = record is None and _has_its_epochs(here)
        except TrialBlockedError as blocked:
            tune.report({"status": "blocked", "reason": str(blocked)})
            return
        if paused:
            tune.report({"status": "done", "accuracy": accuracy})
        elif record is None:
            if not all_stop:
                raise Preempted(why_leave() or DRAINED)
            tune.report({"status": "stopped"})
        elif record.status == "failed" or record.last is None:
            tune.report({"status": "failed", "reason": record.reason or "unknown"})
        else:
            tune.report({"status": "done", "accuracy": record.last.test_accuracy})

    return train_trial


def _has_its_epochs(spec: TrialSpec) -> bool:
    """Whether a trial that is not trained to the end has as many epochs as it was asked for."""
    asked = spec.execution.stop_after_epochs
    return asked is not None and Store(spec.results_dir).epochs_done(spec) >= asked


def train_until_told(
    spec: TrialSpec,
    on_epoch: Callable[[EpochMetrics], None],
    should_stop: Callable[[], bool],
    trainer: str | RunTrial,
) -> tuple[TrialRecord | None, bool]:
    """Train the trial; return its record, None if it left before its end, and whether all trials were asked to stop."""
    leaving = Leaving(should_stop)
    record = None if leaving() else run_spec(spec, Hooks(on_epoch, leaving), train=trainer)
    return record, record is None and should_stop()
