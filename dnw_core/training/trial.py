"""One trial from recipe and seed to a folder that holds its result: in this process, or on workers that it starts."""

from __future__ import annotations

from dataclasses import replace

from dnw_core.record import TrialRecord
from dnw_core.task import NO_HOOKS, Hooks, TrialTask
from dnw_core.training.checkpoints.parent import check_parent_given
from dnw_core.training.checkpoints.resume import stored_values
from dnw_core.training.engine.group import SINGLE, check_workers
from dnw_core.training.worker import run_worker
from dnw_core.training.workers.supervisor import run_on_workers


def run_trial(task: TrialTask, hooks: Hooks = NO_HOOKS) -> TrialRecord:
    """Train one trial in its folder, which is made if missing, from its checkpoint if there is one; return its record.

    With several workers this process trains nothing: it starts one process for each, passes on their epochs, tells
    them to stop, and starts them again from the last checkpoint if one is lost.

    Raises:
        TrialFailedError: training cannot go on (a loss that is not finite), the parent cannot be used, or workers are
            lost again and again.
        TrialStopped: ``hooks.should_stop`` returned True, or the trial has ``execution.stop_after_epochs`` epochs.
        UserError: the data set is missing or broken, or a setting does not fit the network or the recipe's batch.
        ValueError: ``task.parent`` is given where ``recipe.parent`` is not set, or the other way round.
    """
    check_parent_given(task.recipe, task.parent)
    check_workers(task.recipe, task.execution.workers)
    task.folder.mkdir(parents=True, exist_ok=True)
    workers = _workers(task)
    if workers > 1:
        execution = task.execution.model_copy(update={"workers": workers})
        return run_on_workers(replace(task, execution=execution), hooks)
    record = run_worker(task, SINGLE, hooks)
    assert record is not None
    return record


def _workers(task: TrialTask) -> int:
    """On a CPU those that the trial began with, as with threads; on GPUs, which promise no bits, those given now."""
    begun = task.recipe.batch_groups > 1 and task.execution.device == "cpu" and stored_values(task)
    return begun.workers if begun else task.execution.workers
