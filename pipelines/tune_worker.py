"""What runs in Ray's worker process: one trial, its epochs reported to the driver as a few numbers.

Nothing that counts goes through Ray: the result lies in the store, and a report only feeds the display.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnw_core.record import EpochMetrics
from pipelines.depot import Depot
from pipelines.parents import TrialBlocked
from pipelines.spec import TrialSpec
from pipelines.trial import RunTrial, run_spec

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
    from pipelines.train_across_nodes import AcrossNodes

    return AcrossNodes(spec.resources, stop_file.parent / "train", train)


def make_trainable(depot: Depot, train: str) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune runs for each trial."""

    def train_trial(config: dict[str, Any]) -> None:
        from ray import tune

        spec = spec_of(config)
        told = 0.0

        def on_epoch(metrics: EpochMetrics) -> None:
            nonlocal told
            if time.monotonic() - told >= _REPORT_SECONDS:
                told = time.monotonic()
                values = {"epoch": metrics.epoch + 1, "accuracy": metrics.test_accuracy, "seconds": metrics.seconds}
                tune.report({"status": "running", **values})

        try:
            trainer = trainer_of(spec, depot.stop_file, train)
            with depot.open(spec) as (here, should_stop):
                record = (
                    None if should_stop() else run_spec(here, on_epoch=on_epoch, should_stop=should_stop, train=trainer)
                )
        except TrialBlocked as blocked:
            tune.report({"status": "blocked", "reason": str(blocked)})
            return
        if record is None:
            tune.report({"status": "stopped"})
        elif record.status == "failed" or record.last is None:
            tune.report({"status": "failed", "reason": record.reason or "unknown"})
        else:
            tune.report({"status": "done", "accuracy": record.last.test_accuracy})

    return train_trial
