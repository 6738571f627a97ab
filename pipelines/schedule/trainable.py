"""What runs in Ray's worker process: one trial, its epochs reported to the driver as a few numbers.

No result goes through Ray: it is in the store, and a report only feeds the display.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnw_core.record import EpochMetrics
from dnw_core.task import Hooks
from pipelines.cluster import DRAINED, Preempted, ShouldStop, VisibilityProbe, preemption_reason, training_marker
from pipelines.driver import ProgressState
from pipelines.spec import TrialSpec
from pipelines.storage import Staging
from pipelines.store import Store
from pipelines.trial import RunTrial, TrialBlockedError, run_spec

KEY = "trial"
"""The one key of a Tune configuration: the trial's specification as JSON."""

# a report waits for the driver, so of many short epochs not all are reported
_REPORT_SECONDS = 0.5


def _spec_of(config: dict[str, Any]) -> TrialSpec:
    """Return the trial of a Tune configuration, on the device that Ray gave this process."""
    spec = TrialSpec.model_validate_json(config[KEY])
    if spec.resources.gpus and spec.execution.device.startswith("cuda"):
        # Ray shows the process its own share only: its first device, or those of its workers by their ranks
        spec = spec.model_copy(update={"execution": spec.execution.model_copy(update={"device": "cuda"})})
    return spec


def _trainer_of(spec: TrialSpec, stop_file: Path | None, train: str) -> str | RunTrial:
    """Return what trains the trial: ``train`` on one machine, where it starts all workers; else Ray Train."""
    if not spec.resources.across_nodes:
        return train
    assert stop_file is not None, "workers on several machines meet in a folder that all of them see"
    from pipelines.schedule.multi_node import MultiNodeTrainer

    return MultiNodeTrainer(spec.resources, stop_file.parent / "train", train)


def make_trainable(
    staging: Staging, train: str, probe: VisibilityProbe | None = None
) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune runs for each trial.

    Args:
        staging: how its process reaches the results folder.
        train: the function that trains, as ``module:name``.
        probe: what its machine must see, checked before the trial starts; None on the driver's own machine.
    """

    def train_trial(config: dict[str, Any]) -> None:
        from ray import tune

        spec = _spec_of(config)
        reported = time.monotonic()  # a trial of less than half a second reports its end alone
        accuracy: float | None = None  # after the last epoch that this process trained

        def on_epoch(metrics: EpochMetrics) -> None:
            nonlocal reported, accuracy
            accuracy = metrics.test_accuracy
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                values = {"epoch": metrics.epoch + 1, "accuracy": accuracy, "seconds": metrics.seconds}
                tune.report({"status": "running", **values})

        try:
            if probe is not None:
                probe.check(spec)
            trainer = _trainer_of(spec, staging.stop_file, train)
            with training_marker(), staging.open(spec) as (here, all_should_stop):
                if (epochs_done := Store(here.results_dir).epochs_done(here)) > 0:
                    tune.report({"status": "running", "epoch": epochs_done})  # from here it goes on
                should_stop = ShouldStop(all_should_stop)
                record = None if should_stop() else run_spec(here, Hooks(on_epoch, should_stop), train=trainer)
                all_stop = record is None and all_should_stop()
                paused = record is None and _has_its_epochs(here)
        except TrialBlockedError as blocked:
            tune.report({"status": "blocked", "reason": str(blocked)})
            return
        if paused:
            tune.report({"status": "done", "accuracy": accuracy})
        elif record is None:
            if not all_stop:
                raise Preempted(preemption_reason() or DRAINED)
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


def state_of(result: dict[str, Any] | None) -> ProgressState:
    """Return how a trial ended, by what it reported last."""
    status = (result or {}).get("status")
    return status if status in ("done", "failed", "blocked") else "stopped"
