"""One trial from recipe and seed to a folder that holds its result.

The order of writing is the guarantee: checkpoints while it runs; history, edges and log at the end; ``trial.json``,
with the other files' hashes, last of all. A folder with a record is complete, one without can go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dnw_core.config import Config
from dnw_core.data.batches import DeviceImages
from dnw_core.execution import Execution
from dnw_core.files import sha256_of, write_text
from dnw_core.models.graph import GraphNetwork
from dnw_core.recipe import Recipe
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    LOG_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    WIRING_FILE,
    EpochMetrics,
    TrialRecord,
)
from dnw_core.training import results
from dnw_core.training.checkpoint import PREVIOUS_FILE, CheckpointKey, load_checkpoint, save_checkpoint
from dnw_core.training.images import load_images
from dnw_core.training.loop import evaluate, train_epoch
from dnw_core.training.memory import keep_freed_memory
from dnw_core.training.numerics import set_numerics
from dnw_core.training.parent import check_parent_given
from dnw_core.training.provenance import collect_provenance, peak_memory_bytes, reset_peak_memory
from dnw_core.training.start import kept_edges, now, start_or_resume
from dnw_core.training.trial_log import TrialLog
from dnw_core.wiring.rule import attached_rules

SECONDS_BETWEEN_STOP_CHECKS = 0.5
SECONDS_BETWEEN_HEARTBEATS = 15.0


class TrialIdentity(Config):
    """The trial's names; the seed stands beside."""

    table: str
    row: str
    scale: str
    fingerprint: str


class TrialStopped(Exception):
    """The trial was asked to stop; its checkpoint is written."""


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

    Args:
        recipe: what to train.
        seed: of initialisation, wiring, order and augmentation.
        execution: where; changes no result, but ``threads`` is overruled by a checkpoint's.
        folder: the trial's working folder; made if missing.
        identity: names that go into the record.
        parent: folder of the finished trial that ``recipe.parent`` asks for, with the same seed.
        on_epoch: called after each epoch.
        should_stop: asked about twice a second; when it says yes, a checkpoint is written and TrialStopped raised.

    Raises:
        TrialFailed: training cannot go on (a loss that is not finite), or the parent cannot be used.
        TrialStopped: ``should_stop`` said yes.
        UserError: the data set is missing or broken, or a setting does not fit the network.
        ValueError: ``parent`` is given where ``recipe.parent`` is not set, or the other way round.
    """
    check_parent_given(recipe, parent)
    folder.mkdir(parents=True, exist_ok=True)
    with TrialLog(folder / LOG_FILE) as log:
        run = _Run(recipe, seed, execution, folder, identity, log, parent)
        run.train(on_epoch or (lambda _: None), should_stop or (lambda: False))
        return run.finish()


class _Run:
    """One session of a trial: what ``run_trial`` holds together."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        folder: Path,
        identity: TrialIdentity,
        log: TrialLog,
        parent: Path | None,
    ) -> None:
        self.recipe, self.seed, self.execution = recipe, seed, execution
        self.folder, self.identity, self.log = folder, identity, log
        self.key = CheckpointKey(identity.fingerprint, seed)
        self.device = torch.device(execution.device)
        saved, refused = load_checkpoint(folder, self.key)
        for sentence in refused:
            log.write(f"{sentence}; going on from the last good state")
        threads = saved["threads"] if saved else execution.threads
        set_numerics(recipe.precision, self.device, threads)
        keep_freed_memory()
        reset_peak_memory(self.device)
        self.dataset = load_images(recipe, execution)
        self.train_images = DeviceImages.training(self.dataset, self.device)
        self.test_images = DeviceImages.test(self.dataset, self.device)
        self.state, self.graphs = start_or_resume(recipe, seed, self.device, threads, saved, parent)
        self.network = self.state.model
        self.model: Callable[[Tensor], Tensor] = self.network
        if execution.compile:
            self.model = torch.compile(self.network)
        if saved is not None:
            log.write(f"resumed at epoch {self.state.epoch}, step {self.state.step} ({threads} threads)")
        else:
            log.write(f"{identity.table}/{identity.row} {identity.fingerprint} seed {seed} on {self.device}")
            if self.state.parent is not None:
                log.write(f"starts from {self.state.parent}")
        self.clock = time.monotonic()
        self.last_checkpoint = self.last_heartbeat = self.last_stop_check = self.clock

    def masks(self) -> dict[str, Tensor]:
        """Kept edges by graph name; asserts the promised counts."""
        return kept_edges(self.network, self.graphs)

    def train(self, on_epoch: Callable[[EpochMetrics], None], should_stop: Callable[[], bool]) -> None:
        """Run the epochs that are left."""
        self.heartbeat()
        while self.state.epoch < self.recipe.epochs:
            rate = train_epoch(
                self.recipe, self.state, self.train_images, self.model, self.seed, lambda: self.after_step(should_stop)
            )
            line = self.end_epoch(rate)
            self.log.write(
                f"epoch {line.epoch}: rate {line.learning_rate:.4g}, train {line.train_loss:.4f} "
                f"{line.train_accuracy:.2%}, test {line.test_loss:.4f} {line.test_accuracy:.2%}, "
                f"{line.live_edges} live edges, {line.edges_swapped} swapped, {line.seconds:.1f} s"
            )
            if self.state.epoch == self.recipe.epochs or self.checkpoint_due():
                self.checkpoint()
            self.heartbeat()
            on_epoch(line)

    def after_step(self, should_stop: Callable[[], bool]) -> None:
        """Between steps: stop if asked to, checkpoint and tell that we live when it is time."""
        now = time.monotonic()
        if now - self.last_stop_check >= SECONDS_BETWEEN_STOP_CHECKS:
            self.last_stop_check = now
            if should_stop():
                self.checkpoint()
                self.log.write(f"stopped on request at epoch {self.state.epoch}, step {self.state.step}")
                raise TrialStopped
        if self.execution.checkpoint_minutes > 0 and self.checkpoint_due():
            self.checkpoint()
        if now - self.last_heartbeat >= SECONDS_BETWEEN_HEARTBEATS:
            self.heartbeat()

    def end_epoch(self, rate: float) -> EpochMetrics:
        """Let the rules act, evaluate, add a line to the history and move on to the next epoch."""
        state = self.state
        with torch.no_grad():
            for attached in attached_rules(self.network):
                attached.rule.after_epoch(attached.weight, state.epoch)
        reset = getattr(self.network, "reset_applications", None)
        if reset is not None:
            reset()
        scores = evaluate(self.recipe, self.network, self.model, self.test_images)
        masks = self.masks()
        swapped = sum(int((mask & ~state.start_masks[name]).sum()) for name, mask in masks.items())
        liveness = cast(GraphNetwork, self.network).liveness(masks).values()
        self.tick()
        line = EpochMetrics(
            epoch=state.epoch,
            learning_rate=rate,
            train_loss=float(state.loss_sum) / len(self.train_images),
            train_accuracy=int(state.correct) / len(self.train_images),
            test_loss=scores.loss,
            test_accuracy=scores.accuracy,
            edges=sum(int(mask.sum()) for mask in masks.values()),
            edges_swapped=swapped,
            live_edges=sum(int(live.edges.sum()) for live in liveness),
            live_nodes=sum(int(live.nodes.sum()) for live in liveness),
            seconds=state.epoch_seconds,
        )
        state.history.append(line)
        state.epoch += 1
        state.begin_epoch(masks)
        return line

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
        finished = self.state.epoch == self.recipe.epochs
        save_checkpoint(self.folder, self.key, self.state.to_checkpoint(finished=finished))
        self.last_checkpoint = time.monotonic()

    def heartbeat(self) -> None:
        """Write how far the trial is."""
        self.tick()
        last = self.state.history[-1] if self.state.history else None
        results.write_progress(self.folder, self.state.epoch, self.recipe.epochs, last, self.state.seconds)
        self.last_heartbeat = time.monotonic()

    def finish(self) -> TrialRecord:
        """Write history, edges and, last of all, the record."""
        state, folder = self.state, self.folder
        masks = self.masks()
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
                self.dataset.checksum,
                state.started_at,
                now(),
                state.resumed,
                state.parent,
            ),
            train_seconds=state.seconds,
            peak_memory_bytes=peak_memory_bytes(self.device),
            files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
        )
        write_text(folder / RECORD_FILE, record.model_dump_json(indent=2) + "\n")
        return record


__all__ = ["TrialIdentity", "TrialStopped", "run_trial"]
