"""One trial from recipe and seed to a folder that holds its result.

The order of writing is the guarantee: checkpoints while it runs; history, edges and log at the end; ``trial.json``,
with the other files' hashes, last of all. A folder with a record is complete, one without can go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dnw_core.config import Config
from dnw_core.data import ImageDataset, load_dataset
from dnw_core.data.batches import DeviceImages
from dnw_core.errors import UserError
from dnw_core.execution import Execution
from dnw_core.files import sha256_of, write_text
from dnw_core.models.build import build_wired
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
from dnw_core.seeds import derive_seed
from dnw_core.training import results
from dnw_core.training.checkpoint import PREVIOUS_FILE, CheckpointKey, load_checkpoint, save_checkpoint
from dnw_core.training.loop import evaluate, make_optimiser, train_epoch
from dnw_core.training.numerics import set_numerics
from dnw_core.training.provenance import collect_provenance, peak_memory_bytes, reset_peak_memory
from dnw_core.training.state import TrainingState
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
        on_epoch: called after each epoch.
        should_stop: asked about twice a second; when it says yes, a checkpoint is written and TrialStopped raised.

    Raises:
        TrialFailed: training cannot go on (a loss that is not finite).
        TrialStopped: ``should_stop`` said yes.
        UserError: the data set is missing or broken, or a setting does not fit the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TrialLog(folder / LOG_FILE) as log:
        run = _Run(recipe, seed, execution, folder, identity, log)
        run.train(on_epoch or (lambda _: None), should_stop or (lambda: False))
        return run.finish()


class _Run:
    """One session of a trial: what ``run_trial`` holds together."""

    def __init__(
        self, recipe: Recipe, seed: int, execution: Execution, folder: Path, identity: TrialIdentity, log: TrialLog
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
        reset_peak_memory(self.device)
        self.dataset = load_dataset(recipe.data.dataset, execution)
        _check_fit(recipe, self.dataset)
        self.dataset = self.dataset.limited(recipe.data.train_images, recipe.data.test_images)
        self.train_images = DeviceImages.training(self.dataset, self.device)
        self.test_images = DeviceImages.test(self.dataset, self.device)
        network, self.graphs = build_wired(recipe.network, recipe.wiring, seed)
        self.network = network.to(self.device)
        self.model: Callable[[Tensor], Tensor] = self.network
        if execution.compile:
            self.model = torch.compile(self.network)
        self.state = TrainingState(
            model=self.network,
            optimiser=make_optimiser(recipe, self.network),
            device=self.device,
            started_at=_now(),
            threads=threads,
            start_masks={},
        )
        if saved is not None:
            self.state.restore(saved)
            log.write(f"resumed at epoch {self.state.epoch}, step {self.state.step} ({threads} threads)")
        else:
            torch.manual_seed(derive_seed(seed, "training"))  # nothing that ran in this process before may show
            self.state.begin_epoch(self.masks())
            log.write(f"{identity.table}/{identity.row} {identity.fingerprint} seed {seed} on {self.device}")
        self.clock = time.monotonic()
        self.last_checkpoint = self.last_heartbeat = self.last_stop_check = self.clock

    def masks(self) -> dict[str, Tensor]:
        """Kept edges by graph name; asserts the promised counts."""
        by_module = {(id(rule.module), rule.weight_name): rule for rule in attached_rules(self.network)}
        return {graph.name: by_module[id(graph.module), graph.weight_name].edges().clone() for graph in self.graphs}

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
        liveness = [graph.liveness(masks[graph.name]) for graph in self.graphs]
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
        save_checkpoint(self.folder, self.key, self.state.to_checkpoint())
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
        cost = cast(GraphNetwork, self.network).cost(masks)
        results.write_history(folder / HISTORY_FILE, state.history)
        results.write_wiring(folder / WIRING_FILE, self.graphs, masks)
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
                self.device, state.threads, self.dataset.checksum, state.started_at, _now(), state.resumed
            ),
            train_seconds=state.seconds,
            peak_memory_bytes=peak_memory_bytes(self.device),
            files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
        )
        write_text(folder / RECORD_FILE, record.model_dump_json(indent=2) + "\n")
        return record


def _check_fit(recipe: Recipe, dataset: ImageDataset) -> None:
    size = dataset.train_images.shape[-1]
    if recipe.network.image_size != size:
        raise UserError(f"the network takes {recipe.network.image_size}-pixel images, {dataset.name} has {size}")
    if recipe.network.classes != len(dataset.classes):
        raise UserError(
            f"the network has {recipe.network.classes} classes, {dataset.name} has {len(dataset.classes)} classes"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


__all__ = ["TrialIdentity", "TrialStopped", "run_trial"]
