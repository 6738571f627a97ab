"""One worker of a trial, from its images to the trial's record; a single process is the only one."""

from __future__ import annotations

from contextlib import closing

import torch

from dnw_core.data.opening import open_feeds
from dnw_core.record import LOG_FILE, TrialRecord
from dnw_core.task import NO_HOOKS, Hooks, TrialTask
from dnw_core.training.checkpoints.parent import check_parent_given
from dnw_core.training.checkpoints.provenance import reset_peak_memory
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.group import WorkerGroup, check_workers
from dnw_core.training.engine.numerics import set_numerics, tune_malloc
from dnw_core.training.session import Session


def run_worker(task: TrialTask, group: WorkerGroup, hooks: Hooks = NO_HOOKS, *, resumed: int = 0) -> TrialRecord | None:
    """Train as one worker of a trial; return the trial's record on the main worker, None on the others.

    Called in each of the group's processes with the same recipe, seed and identity; ``torch.distributed`` must be
    initialised if there are several. If one process dies or raises, the others may wait for it until they are ended;
    the caller that started them must do that.

    Args:
        task: the trial. Its execution's ``device`` is this process's own, and ``workers`` is not read; its folder is
            read and written, and its parent read, by the main worker only.
        group: this process among the trial's workers.
        hooks: ``on_epoch`` is called in every process that gives one, with the same scores; ``should_stop`` is asked
            on the main worker only, and all stop after the same step.
        resumed: times that the trial has gone on already, for the record, if its checkpoint cannot know all of them.

    Raises:
        TrialFailedError: training cannot go on, the parent cannot be used, or the workers' weights differ.
        TrialStopped: ``hooks.should_stop`` returned True; the checkpoint is written.
        UserError: the data set is missing or broken, or a setting does not fit the network or the group.
        PeerLostError: another worker could not be reached.
        ValueError: ``task.parent`` is given where ``recipe.parent`` is not set, or the other way round.
    """
    check_workers(task.recipe, group.workers)
    if group.is_main:
        check_parent_given(task.recipe, task.parent)
        task.folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(task.execution.device)
    with TrialLog(task.folder / LOG_FILE if group.is_main else None) as log:
        set_numerics(task.recipe.precision, device, task.execution.threads)
        tune_malloc()
        reset_peak_memory(device)
        with closing(open_feeds(task.recipe, task.execution, device)) as feeds:
            session = Session(task, group, feeds, log, resumed)
            session.train(hooks)
            return session.finish() if group.is_main else None
