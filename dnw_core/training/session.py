"""One session of a trial on one worker: epochs, checkpoints, and the files at the end.

The order of writing is the guarantee: checkpoints while it runs; history, edges and log at the end; ``trial.json``,
with the other files' hashes, last of all. A folder with a record is complete, one without can go on. On several
workers the first one alone writes; the others go through the same motions, so that all of them meet at every sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dnw_core.config import Config, Execution, Recipe
from dnw_core.data.feeds.batches import steps_per_epoch
from dnw_core.data.feeds.feed import Feeds
from dnw_core.errors import TrialFailedError, TrialStopped
from dnw_core.files import sha256_of, write_text
from dnw_core.models.graph import GraphNetwork
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    LOG_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    WIRING_FILE,
    EpochMetrics,
    TrialRecord,
    record_text,
)
from dnw_core.training.checkpoints import results
from dnw_core.training.checkpoints.checkpoint import PREVIOUS_FILE, CheckpointKey, save_checkpoint
from dnw_core.training.checkpoints.provenance import collect_provenance, peak_memory_bytes
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.batch_statistics import take_statistics_from_first
from dnw_core.training.engine.finite import finite_epoch
from dnw_core.training.engine.group import WorkerGroup
from dnw_core.training.engine.loop import evaluate, train_epoch
from dnw_core.training.engine.step import TrainingStep
from dnw_core.training.start import kept_edges, now, start_or_resume
from dnw_core.wiring.rule import Run

SECONDS_BETWEEN_STOP_CHECKS = 0.5
SECONDS_BETWEEN_HEARTBEATS = 15.0


class TrialIdentity(Config):
    """The trial's names; the seed stands beside."""

    table: str
    row: str
    scale: str
    fingerprint: str


class Session:
    """What ``run_worker`` holds together.

    Args:
        recipe: what to train.
        seed: the trial's.
        execution: where.
        folder: the trial's, written to by the first worker only.
        identity: names that go into the record.
        log: the trial's.
        group: this worker among the others.
        feeds: the recipe's images.
        saved: the trial's checkpoint, on the first worker.
        parent: folder of the finished trial that the recipe starts from, on the first worker.
        resumed: how often the trial has gone on at least, whatever the checkpoint says.
    """

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        folder: Path,
        identity: TrialIdentity,
        log: TrialLog,
        group: WorkerGroup,
        feeds: Feeds,
        saved: dict[str, Any] | None,
        parent: Path | None,
        resumed: int,
    ) -> None:
        self.recipe, self.seed, self.execution = recipe, seed, execution
        self.folder, self.identity, self.log = folder, identity, log
        self.group, self.feeds = group, feeds
        self.key = CheckpointKey(identity.fingerprint, seed)
        self.device = torch.device(execution.device)
        threads = saved["threads"] if saved else execution.threads
        steps = steps_per_epoch(len(feeds.train), recipe.batch_size, drop_last=recipe.drop_last)
        run = Run(recipe.epochs, steps)
        self.seen = min(len(feeds.train), steps * recipe.batch_size)  # training images an epoch
        self.state, self.graphs = start_or_resume(recipe, run, seed, self.device, threads, saved, parent, group)
        self.state.resumed = max(self.state.resumed, resumed)
        self.network = self.state.model
        self.model: Callable[[Tensor], Tensor] = self.network
        if execution.compile:
            self.model = torch.compile(self.network)
        self.training_step = TrainingStep(
            recipe, self.network, self.state.optimiser, self.model, seed=seed, group=group, run=run
        )
        self._log_start(saved)
        self.saved = saved["epoch"] if saved else 0  # the epoch of the last checkpoint, from which another one goes on
        self.clock = time.monotonic()
        self.last_checkpoint = self.last_heartbeat = self.last_stop_check = self.clock

    def _log_start(self, saved: dict[str, Any] | None) -> None:
        state, identity = self.state, self.identity
        if saved is None:
            where = str(self.device) if self.group.alone else f"{self.device}, {state.workers} workers"
            self.log.write(f"{identity.table}/{identity.row} {identity.fingerprint} seed {self.seed} on {where}")
            if state.parent is not None:
                self.log.write(f"starts from {state.parent}")
            return
        self.log.write(f"resumed at epoch {state.epoch}, step {state.step} ({state.threads} threads)")
        before = saved.get("workers", 1)
        if before != state.workers:
            self.log.write(
                f"it ran on {before} workers before and goes on with {state.workers}: "
                "the recipe's groups are the same, only the order of sums changes"
            )

    def masks(self) -> dict[str, Tensor]:
        """Kept edges by graph name; asserts the promised counts."""
        return kept_edges(self.training_step.wiring, self.graphs)

    def train(self, on_epoch: Callable[[EpochMetrics], None], should_stop: Callable[[], bool]) -> None:
        """Run the epochs that are left; raises NotFiniteError if the network diverges."""
        self.heartbeat()
        while self.state.epoch < self.recipe.epochs:
            with finite_epoch(self.network, self.state.epoch):
                rate = train_epoch(
                    self.recipe,
                    self.state,
                    self.feeds.train,
                    self.training_step,
                    lambda looked: self.after_step(should_stop, looked),
                )
                line = self.end_epoch(rate)
            self.log.write(results.in_words(line))
            if self.state.epoch == self.recipe.epochs or self.checkpoint_due():
                self.checkpoint()
            else:
                self.heartbeat()
            on_epoch(line)

    def after_step(self, should_stop: Callable[[], bool], looked: bool) -> None:
        """Between steps: stop if asked to, checkpoint and tell that we live when it is time.

        The first of several workers is asked, and its wish goes round with the next step's sum: all of them stop after
        the same step. They look at it when the device has been waited for anyway (``looked``).
        """
        now = time.monotonic()
        asked = False
        if now - self.last_stop_check >= SECONDS_BETWEEN_STOP_CHECKS:
            self.last_stop_check = now
            asked = should_stop()
        stopping = asked if self.group.alone else looked and self.training_step.stop_agreed()
        if stopping:
            self.checkpoint()
            self.log.write(f"stopped on request at epoch {self.state.epoch}, step {self.state.step}")
            raise TrialStopped
        self.training_step.wants_stop |= asked and self.group.first
        if self.execution.checkpoint_minutes > 0 and self.checkpoint_due():
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
        self.refuse_drift()
        take_statistics_from_first(self.training_step.norms, self.group)
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

    def refuse_drift(self) -> None:
        """Check that all workers have the same weights and edges.

        Raises:
            TrialFailedError: on every worker, if not.
        """
        rules = [buffer for place in self.training_step.wiring.attached for buffer in place.rule.buffers()]
        if not self.group.agree([*self.network.parameters(), *rules]):
            epoch = self.state.epoch
            raise TrialFailedError(
                f"the weights of the {self.group.workers} workers have drifted apart (epoch {epoch})"
            )

    def tick(self) -> None:
        """Add the time since the last call to the trial's."""
        now = time.monotonic()
        self.state.seconds += now - self.clock
        self.state.epoch_seconds += now - self.clock
        self.clock = now

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self.last_checkpoint >= 60.0 * self.execution.checkpoint_minutes

    def checkpoint(self) -> None:
        """Write the state."""
        self.tick()
        if self.group.first:
            state = self.state.to_checkpoint(finished=self.state.epoch == self.recipe.epochs)
            save_checkpoint(self.folder, self.key, state)
        self.saved = self.state.epoch
        self.last_checkpoint = time.monotonic()
        self.heartbeat()

    def heartbeat(self) -> None:
        """Write how far the trial is."""
        self.tick()
        if self.group.first:
            last = self.state.history[-1] if self.state.history else None
            epoch, epochs = self.state.epoch, self.recipe.epochs
            results.write_progress(self.folder, epoch, epochs, last, self.state.seconds, self.saved)
        self.last_heartbeat = time.monotonic()

    def finish(self) -> TrialRecord:
        """Write history, edges and, last of all, the record."""
        state, folder = self.state, self.folder
        masks = state.start_masks or self.masks()  # found at the last epoch's end, if this session trained it
        network = cast(GraphNetwork, self.network)
        cost = network.cost(masks)
        results.write_history(folder / HISTORY_FILE, state.history)
        results.write_wiring(folder / WIRING_FILE, masks, network.liveness(masks))
        last, best = state.history[-1], results.best_of(state.history)
        self.log.write(f"done: last {last.test_accuracy:.2%}, best {best.test_accuracy:.2%} at epoch {best.epoch}")
        self.log.flush()
        (folder / PREVIOUS_FILE).unlink(missing_ok=True)
        record = TrialRecord(
            version=RECORD_VERSION,
            table=self.identity.table,
            row=self.identity.row,
            seed=self.seed,
            scale=self.identity.scale,
            fingerprint=self.identity.fingerprint,
            recipe=self.recipe,
            status="done",
            last=results.scores_of(last),
            best=results.scores_of(best),
            cost=cost,
            provenance=collect_provenance(
                self.device,
                state.threads,
                self.feeds.checksum,
                state.started_at,
                now(),
                state.resumed,
                state.parent,
                state.workers,
            ),
            train_seconds=state.seconds,
            peak_memory_bytes=peak_memory_bytes(self.device),
            files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
        )
        write_text(folder / RECORD_FILE, record_text(record))
        return record
