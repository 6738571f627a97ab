"""One trial from recipe and seed to a folder that holds its result: in this process, or on workers that it starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dnw_core.config import Execution, Recipe
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, EpochMetrics, TrialRecord
from dnw_core.training.checkpoints.checkpoint import PREVIOUS_FILE, CheckpointKey
from dnw_core.training.checkpoints.parent import check_parent_given
from dnw_core.training.checkpoints.resume import take_over
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.group import LONE, check_workers
from dnw_core.training.session import TrialIdentity
from dnw_core.training.worker import run_worker
from dnw_core.training.workers.supervisor import run_on_workers


def run_trial(
    recipe: Recipe,
    seed: int,
    execution: Execution,
    folder: Path,
    identity: TrialIdentity,
    *,
    parent: Path | None = None,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrialRecord:
    """Train one trial in ``folder``, going on from its checkpoint if there is one; return its record.

    With several workers this process trains nothing: it starts one process for each, hears of their epochs, tells
    them to stop, and starts them again from the last checkpoint if one is lost.

    Args:
        recipe: what to train.
        seed: of initialisation, wiring, order and augmentation.
        execution: where; changes no result, but ``threads``, and on a CPU ``workers``, are overruled by a
            checkpoint's, because bits depend on them.
        folder: the trial's working folder; made if missing.
        identity: names that go into the record.
        parent: folder of the finished trial that ``recipe.parent`` asks for, with the same seed.
        on_epoch: called after each epoch.
        should_stop: asked about twice a second; when it says yes, a checkpoint is written and TrialStopped raised.

    Raises:
        TrialFailedError: training cannot go on (a loss that is not finite), the parent cannot be used, or workers are
            lost again and again.
        TrialStopped: ``should_stop`` said yes.
        UserError: the data set is missing or broken, or a setting does not fit the network or the recipe's batch.
        ValueError: ``parent`` is given where ``recipe.parent`` is not set, or the other way round.
    """
    check_parent_given(recipe, parent)
    check_workers(recipe, execution.workers)
    folder.mkdir(parents=True, exist_ok=True)
    on_epoch, should_stop = on_epoch or (lambda _: None), should_stop or (lambda: False)
    workers = _workers(recipe, execution, folder, CheckpointKey(identity.fingerprint, seed))
    if workers > 1:
        execution = execution.model_copy(update={"workers": workers})
        return run_on_workers(
            recipe, seed, execution, folder, identity, parent=parent, on_epoch=on_epoch, should_stop=should_stop
        )
    record = run_worker(
        recipe, seed, execution, folder, identity, LONE, parent=parent, on_epoch=on_epoch, should_stop=should_stop
    )
    assert record is not None
    return record


def _workers(recipe: Recipe, execution: Execution, folder: Path, key: CheckpointKey) -> int:
    """On a CPU those that the trial began with, as with threads; on GPUs, which promise no bits, those given now."""
    if recipe.batch_groups == 1 or not any((folder / name).exists() for name in (CHECKPOINT_FILE, PREVIOUS_FILE)):
        return execution.workers
    with TrialLog(folder / LOG_FILE) as log:
        saved = take_over(folder, key, recipe, log)
    return int(saved.get("workers", 1)) if saved and execution.device == "cpu" else execution.workers


__all__ = ["TrialIdentity", "run_trial"]
