"""One session of a trial on one worker: epochs, checkpoints, and the files at the end.

The order of writing is the guarantee: checkpoints while it runs; history, edges and log at the end; ``trial.json``,
with the other files' hashes, last of all. A folder with a record is complete, one without can go on. On several
workers the main one alone writes; the others go through the same motions, so that all of them meet at every sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from dnw_core.data.feeds.feed import Feeds, steps_per_epoch
from dnw_core.errors import TrialFailedError, TrialStopped
from dnw_core.models.graph import GraphNetwork
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask
from dnw_core.training.checkpoints.checkpoint import CheckpointKey, save_checkpoint
from dnw_core.training.checkpoints.results import format_epoch, write_progress, write_result
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.batch_statistics import broadcast_statistics
from dnw_core.training.engine.finite import finite_epoch
from dnw_core.training.engine.group import WorkerGroup
from dnw_core.training.engine.loop import evaluate, train_epoch
from dnw_core.training.engine.step import TrainingStep
from dnw_core.training.start import kept_edges, start_or_resume
from dnw_core.wiring.rule import Run

SECONDS_BETWEEN_STOP_CHECKS = 0.5
SECONDS_BETWEEN_HEARTBEATS = 15.0


class Session:
    """What ``run_worker`` holds together.

    Args:
        task: the trial; its folder is read and written by the main worker only.
        group: this worker among the others.
        feeds: the recipe's images.
        log: the trial's.
        resumed: least number of times that the trial has gone on; its checkpoint may not know all of them.
    """

    def __init__(self, task: TrialTask, group: WorkerGroup, feeds: Feeds, log: TrialLog, resumed: int) -> None:
        self.task, self.recipe, self.group, self.feeds, self.log = task, task.recipe, group, feeds, log
        steps = steps_per_epoch(len(feeds.train), self.recipe.batch_size, drop_last=self.recipe.drop_last)
        self.seen = min(len(feeds.train), steps * self.recipe.batch_size)  # training images an epoch
        run = Run(self.recipe.epochs, steps)
        self.state, self.graphs = start_or_resume(task, run, log, group)
        self.state.resumed = max(self.state.resumed, resumed)
        self.saved = self.state.epoch  # the epoch of the last checkpoint
        self.network = self.state.model
        self.model: Callable[[Tensor], Tensor] = self.network
        if task.execution.compile:
            self.model = torch.compile(self.network)
        self.training_step = TrainingStep(
            self.recipe, self.network, self.state.optimiser, self.model, seed=task.seed, group=group, run=run
        )
        self.clock = time.monotonic()
        self.last_checkpoint = self.last_heartbeat = self.last_stop_check = self.clock

    def masks(self) -> dict[str, Tensor]:
        """Return the kept edges by graph name; asserts the promised counts."""
        return kept_edges(self.training_step.wiring, self.graphs)

    def train(self, hooks: Hooks) -> None:
        """Run the epochs that are left; raises NotFiniteError if the network diverges."""
        self.heartbeat()
        last = min(self.task.execution.stop_after_epochs or self.recipe.epochs, self.recipe.epochs)
        while self.state.epoch < last:
            with finite_epoch(self.network, self.state.epoch):
                rate = train_epoch(
                    self.recipe,
                    self.state,
                    self.feeds.train,
                    self.training_step,
                    lambda synced: self.after_step(hooks.should_stop, synced),
                )
                line = self.end_epoch(rate)
            self.log.write(format_epoch(line))
            if self.state.epoch == last or self.checkpoint_due():
                self.checkpoint()
            else:
                self.heartbeat()
            hooks.on_epoch(line)
        if self.state.epoch < self.recipe.epochs:
            self.log.write(f"stopped as asked after {self.state.epoch} of {self.recipe.epochs} epochs")
            raise TrialStopped

    def after_step(self, should_stop: Callable[[], bool], synced: bool) -> None:
        """Between steps: stop if asked to, write a checkpoint and the progress when it is time.

        The main worker of several is asked, and its request goes to all with the next step's sum: all of them stop
        after the same step. They look at it when the device has been waited for anyway (``synced``).
        """
        now = time.monotonic()
        asked = False
        if now - self.last_stop_check >= SECONDS_BETWEEN_STOP_CHECKS:
            self.last_stop_check = now
            asked = should_stop()
        stopping = asked if self.group.is_single else synced and self.training_step.stop_agreed()
        if stopping:
            self.checkpoint()
            self.log.write(f"stopped on request at epoch {self.state.epoch}, step {self.state.step}")
            raise TrialStopped
        self.training_step.wants_stop |= asked and self.group.is_main
        if self.task.execution.checkpoint_minutes > 0 and self.checkpoint_due():
            self.checkpoint()
        if now - self.last_heartbeat >= SECONDS_BETWEEN_HEARTBEATS:
            self.heartbeat()

    def end_epoch(self, rate: float) -> EpochMetrics:
        """Let the rules act, evaluate, add a line to the history and move on to the next epoch.

        Raises:
            TrialFailedError: if the workers' weights are no longer the same.
        """
        state = self.state
        self.training_step.wiring.after_epoch(state.epoch)
        self.check_workers_equal()
        broadcast_statistics(self.training_step.norms, self.group)
        reset = getattr(self.network, "reset_applications", None)
        if reset is not None:
            reset()
        scores = evaluate(self.recipe, self.network, self.model, self.feeds.test, self.group)
        masks = self.masks()
        swapped = sum(int((mask & ~state.start_masks[name]).count_nonzero()) for name, mask in masks.items())
        liveness = cast(GraphNetwork, self.network).liveness(masks).values()
        self.tick()
        line = EpochMetrics(
            epoch=state.epoch,
            learning_rate=rate,
            train_loss=float(state.loss_sum) / self.seen,
            train_accuracy=int(state.correct) / self.seen,
            test_loss=scores.loss,
            test_accuracy=scores.accuracy,
            edges=sum(int(mask.count_nonzero()) for mask in masks.values()),
            edges_swapped=swapped,
            live_edges=sum(int(live.edges.count_nonzero()) for live in liveness),
            live_nodes=sum(int(live.nodes.count_nonzero()) for live in liveness),
            seconds=state.epoch_seconds,
            test_top5_accuracy=scores.top5_accuracy,
        )
        state.history.append(line)
        state.epoch += 1
        state.begin_epoch(masks)
        return line

    def check_workers_equal(self) -> None:
        """Check that all workers have the same weights and edges.

        Raises:
            TrialFailedError: on every worker, if not.
        """
        rules = [buffer for place in self.training_step.wiring.attached for buffer in place.rule.buffers()]
        if not self.group.all_equal([*self.network.parameters(), *rules]):
            raise TrialFailedError(
                f"the weights of the {self.group.workers} workers have drifted apart (epoch {self.state.epoch})"
            )

    def tick(self) -> None:
        """Add the time since the last call to the trial's."""
        now = time.monotonic()
        self.state.seconds += now - self.clock
        self.state.epoch_seconds += now - self.clock
        self.clock = now

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self.last_checkpoint >= 60.0 * self.task.execution.checkpoint_minutes

    def checkpoint(self) -> None:
        """Write the state."""
        self.tick()
        if self.group.is_main:
            state = self.state.to_checkpoint(finished=self.state.epoch == self.recipe.epochs)
            save_checkpoint(self.task.folder, CheckpointKey.of(self.task), state)
        self.saved = self.state.epoch
        self.last_checkpoint = time.monotonic()
        self.heartbeat()

    def heartbeat(self) -> None:
        """Write how far the trial is."""
        self.tick()
        if self.group.is_main:
            write_progress(self.task, self.state, self.saved)
        self.last_heartbeat = time.monotonic()

    def finish(self) -> TrialRecord:
        """Write history, edges and, last of all, the record."""
        masks = self.state.start_masks or self.masks()  # found at the last epoch's end, if this session trained it
        return write_result(self.task, self.state, masks, self.feeds.checksum, self.log)
