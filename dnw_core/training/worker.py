"""One worker of a trial, from its images to the trial's record; a process alone is the only one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from dnw_core.config import Execution, Recipe
from dnw_core.record import LOG_FILE, EpochMetrics, TrialRecord
from dnw_core.training.checkpoints.checkpoint import CheckpointKey
from dnw_core.training.checkpoints.parent import check_parent_given
from dnw_core.training.checkpoints.provenance import reset_peak_memory
from dnw_core.training.checkpoints.resume import take_over
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.group import WorkerGroup, check_workers
from dnw_core.training.engine.numerics import keep_freed_memory, set_numerics
from dnw_core.training.images import open_feeds
from dnw_core.training.session import Session, TrialIdentity


def run_worker(
    recipe: Recipe,
    seed: int,
    execution: Execution,
    folder: Path,
    identity: TrialIdentity,
    group: WorkerGroup,
    *,
    parent: Path | None = None,
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    resumed: int = 0,
) -> TrialRecord | None:
    """Train as one worker of a trial; return the trial's record on the first worker, None on the others.

    Called in each of the group's processes with the same recipe, seed and identity; ``torch.distributed`` must be
    initialised if there are several. If one process dies or raises, the others may wait for it until they are ended:
    whoever started them must do that.

    Args:
        recipe: what to train.
        seed: of initialisation, wiring, order and augmentation.
        execution: where: ``device`` is this process's own. ``workers`` is not read; the group says how many.
        folder: the trial's working folder. Read and written by the first worker only; the others need not see it.
        identity: names that go into the record.
        group: this process among the trial's workers.
        parent: folder of the finished trial that ``recipe.parent`` asks for; read by the first worker only.
        on_epoch: called after each epoch, in every process that gives one; all have the same scores.
        should_stop: asked about twice a second on the first worker only; all stop after the same step.
        resumed: times that the trial has gone on already, for the record, if its checkpoint cannot know all of them.

    Raises:
        TrialFailedError: training cannot go on, the parent cannot be used, or the workers' weights differ.
        TrialStopped: ``should_stop`` said yes; the checkpoint is written.
        UserError: the data set is missing or broken, or a setting does not fit the network or the group.
        PeerLostError: another worker could not be reached.
        ValueError: ``parent`` is given where ``recipe.parent`` is not set, or the other way round.
    """
    check_workers(recipe, group.workers)
    if group.first:
        check_parent_given(recipe, parent)
        folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(execution.device)
    with TrialLog(folder / LOG_FILE if group.first else None) as log:
        saved = take_over(folder, CheckpointKey(identity.fingerprint, seed), recipe, log) if group.first else None
        set_numerics(recipe.precision, device, saved["threads"] if saved else execution.threads)
        keep_freed_memory()
        reset_peak_memory(device)
        with closing(open_feeds(recipe, execution, device)) as feeds:
            session = Session(recipe, seed, execution, folder, identity, log, group, feeds, saved, parent, resumed)
            session.train(on_epoch or (lambda _: None), should_stop or (lambda: False))
            return session.finish() if group.first else None
