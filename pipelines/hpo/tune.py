"""What runs in Ray's worker process for a search: one configuration, every epoch told to the scheduler.

An epoch is on disk (checkpoint, then ``curve.json``) before it is told, and the last one is told only when the result
is committed: whatever the scheduler then decides, or whoever is killed, nothing that was trained is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dnw_core.record import EpochMetrics
from pipelines.cluster import DRAINED, Preempted, preemption_reason, training_marker
from pipelines.driver import StopWatch
from pipelines.hpo.curve import Curve, read_curve
from pipelines.schedule.trainable import spec_of, train_until_stopped, trainer_of
from pipelines.spec import TrialSpec
from pipelines.store import Store
from pipelines.trial import prepare_process


def make_search_trainable(stop_file: Path, train: str) -> Callable[[dict[str, Any]], None]:
    """Return the function that Tune runs for each configuration."""

    def train_configuration(config: dict[str, Any]) -> None:
        from ray import tune

        spec = spec_of(config)
        watch = StopWatch(stop_file)
        if watch():
            tune.report({"status": "stopped"})
            return

        def tell(line: EpochMetrics) -> None:
            if line.epoch + 1 < spec.recipe.epochs:
                tune.report(running(line))

        curve = trained_so_far(spec)
        for line in curve.epochs:  # what is not judged yet; the scheduler passes over what is
            tell(line)

        def on_epoch(line: EpochMetrics) -> None:
            nonlocal curve
            curve = curve.grown(line)
            curve.write(Store(spec.results_dir).work_folder(spec))
            tell(line)

        with training_marker():
            record, all_stop = train_until_stopped(spec, on_epoch, watch, trainer_of(spec, stop_file, train))
        if record is None:
            if not all_stop:
                raise Preempted(preemption_reason() or DRAINED)
            tune.report({"status": "stopped"})
        elif record.status == "failed" or record.last is None:
            tune.report({"status": "failed", "reason": record.reason or "unknown"})
        else:
            accuracy = record.last.test_accuracy
            tune.report({"status": "done", "epoch": spec.recipe.epochs, "accuracy": accuracy})

    return train_configuration


def running(line: EpochMetrics) -> dict[str, Any]:
    """Return the report of one epoch: epochs done, accuracy on the held-out images (a fraction), seconds."""
    return {
        "status": "running",
        "epoch": line.epoch + 1,
        "accuracy": line.test_accuracy,
        "seconds": line.seconds,
    }


def trained_so_far(spec: TrialSpec) -> Curve:
    """Return the epochs of an interrupted trial, also one that the process died too early to write down."""
    folder = Store(spec.results_dir).folder(spec)
    curve = read_curve(folder)
    if folder.exists():
        return curve
    prepare_process(spec.execution)
    from dnw_core.models.build import build_wired
    from dnw_core.training.checkpoints.checkpoint import CheckpointKey, load_checkpoint
    from dnw_core.training.checkpoints.resume import check_resumable

    work = Store(spec.results_dir).work_folder(spec)
    key = CheckpointKey(spec.fingerprint, spec.seed)
    network = spec.recipe.network, spec.recipe.wiring, spec.seed
    saved, _ = load_checkpoint(work, key, lambda state: check_resumable(state, spec.recipe, build_wired(*network)))
    grown = curve.grown(*(EpochMetrics.model_validate(dict(line)) for line in (saved or {}).get("history", [])))
    if grown != curve:
        grown.write(work)
    return grown
