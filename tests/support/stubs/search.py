"""Training for the search's tests: accuracy follows from the learning rate, and every epoch leaves a line.

Like the real one it writes a checkpoint after each epoch and goes on from it; the line comes after the checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from dnw_core.errors import TrialFailedError, TrialStopped
from dnw_core.files import write_text
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask
from support.stubs.training import epoch_line, write_result

TRAIN = "support.stubs.search:run_trial"
BEST_RATE = 0.1
FAILING_RATE = 1e-6
EPOCH_SECONDS = 0.1
TABLE = """\
id: toy
title: A table to search
source: a test
recipe:
  network: {kind: tiny-static}
  data: {dataset: digits, flip: false, train_images: 256, test_images: 128}
  optimiser: {learning_rate: 1e-3, weight_decay: 1e-4}
  schedule: {kind: cosine}
  epochs: 9
  batch_size: 64
scales:
  smoke: {resources: {cpus: 1}}
rows:
  sought:
    label: Sought
    extra: true
    recipe:
      wiring: {rule: top-edges, density: 0.05}
    search:
      space:
        optimiser.learning_rate: {choice: [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]}
      trials: 6
      validation_images: 64
      first_rung_fraction: 0.2
  sought-corrected:
    label: Sought, corrected
    extra: true
    corrects: sought
    recipe:
      network: {readout_crop: corrected}
"""


def accuracy(rate: float, epoch: int) -> float:
    """What the stub reaches after an epoch (counted from 0): the nearer the best rate, the better, at every epoch."""
    return 0.9 - 0.1 * abs(math.log10(rate / BEST_RATE)) + 0.001 * epoch


def write_tables(folder: Path, text: str = TABLE) -> Path:
    """Write the table file; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.yaml").write_text(text, "utf-8")
    return folder


def trained(search_dir: Path) -> Counter[tuple[str, int]]:
    """Return how often each epoch (counted from 0) of each configuration was trained, by fingerprint."""
    lines = [path.read_text("utf-8").split() for path in sorted((search_dir / "trained").glob("*"))]
    return Counter((words[index], int(words[index + 1])) for words in lines for index in range(0, len(words), 2))


def run_trial(task: TrialTask, hooks: Hooks) -> TrialRecord:
    """Train, going on from the checkpoint."""
    recipe, folder, fingerprint = task.recipe, task.folder, task.identity.fingerprint
    assert recipe.data.validation_images == 64
    assert task.execution.checkpoint_minutes == 0
    if recipe.optimiser.learning_rate == FAILING_RATE:
        raise TrialFailedError("the loss is nan at epoch 0, step 3")
    checkpoint = folder / "checkpoint.pt"
    lines = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
    epochs = [EpochMetrics.model_validate(one) for one in lines]
    with (folder / "log.txt").open("a") as log:
        log.write(f"goes on from epoch {len(epochs)}\n")
    for epoch in range(len(epochs), recipe.epochs):
        time.sleep(EPOCH_SECONDS)
        epochs.append(line(epoch, accuracy(recipe.optimiser.learning_rate, epoch)))
        write_text(checkpoint, json.dumps([one.model_dump() for one in epochs]))
        write_text(folder / "progress.json", json.dumps({"epoch": epoch + 1, "epochs": recipe.epochs, "metrics": None}))
        ledger = folder.parents[4] / "trained"
        ledger.mkdir(exist_ok=True)
        with (ledger / fingerprint).open("a") as file:
            file.write(f"{fingerprint} {epoch}\n")
        hooks.on_epoch(epochs[-1])
        if hooks.should_stop():
            raise TrialStopped
    return write_result(task, epochs, datetime.now(UTC))


def line(epoch: int, reached: float) -> EpochMetrics:
    """One epoch (counted from 0) that reached an accuracy."""
    return epoch_line(epoch, 0, reached, EPOCH_SECONDS)
