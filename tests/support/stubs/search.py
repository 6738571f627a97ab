"""Training for the search's tests: accuracy follows from the learning rate, and every epoch leaves a line.

Like the real one it writes a checkpoint after each epoch and goes on from it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dnw_core.errors import TrialFailedError, TrialStopped
from dnw_core.files import write_text
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, PROGRESS_FILE, EpochMetrics, TrialRecord
from dnw_core.task import Hooks, TrialTask
from pipelines.driver.lock import lock_owner
from pipelines.hpo.plan import Search, find_row, plan_search
from pipelines.plan.placement import Placement
from pipelines.schedule.run import ScheduleOutcome
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from pipelines.trial.run import run_spec
from support.stubs.training import epoch_line, write_result
from tune_configs import load_tables

TRAIN = "support.stubs.search:run_trial"
BEST_RATE = 0.1
FAILING_RATE = 1e-6
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
    """Train, going on from the checkpoint, to the end or to ``execution.stop_after_epochs``."""
    recipe, folder, fingerprint = task.recipe, task.folder, task.identity.fingerprint
    assert recipe.data.validation_images == 64
    assert task.execution.checkpoint_minutes == 0
    if recipe.optimiser.learning_rate == FAILING_RATE:
        raise TrialFailedError("the loss is nan at epoch 0, step 3")
    checkpoint = folder / CHECKPOINT_FILE
    lines = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
    epochs = [EpochMetrics.model_validate(one) for one in lines]
    (folder / LOG_FILE).touch()
    for epoch in range(len(epochs), task.execution.stop_after_epochs or recipe.epochs):
        epochs.append(epoch_line(epoch, 0, accuracy(recipe.optimiser.learning_rate, epoch)))
        ledger = folder.parents[4] / "trained"
        ledger.mkdir(exist_ok=True)
        with (ledger / fingerprint).open("a") as file:
            file.write(f"{fingerprint} {epoch}\n")
        write_text(checkpoint, json.dumps([one.model_dump() for one in epochs]))
        write_progress(folder, epochs[-1])
        hooks.on_epoch(epochs[-1])
    if len(epochs) < recipe.epochs:
        raise TrialStopped
    return write_result(task, epochs, datetime.now(UTC))


def write_progress(folder: Path, last: EpochMetrics, *, metrics: bool = True) -> None:
    """Write a trial's progress after an epoch."""
    done = last.epoch + 1
    values = {"epoch": done, "saved": done, "metrics": last.model_dump() if metrics else None, "seconds": 0.1 * done}
    write_text(folder / PROGRESS_FILE, json.dumps(values))


class Killed(BaseException):
    """The driver is killed."""


class ScheduleHere:
    """Trains in this process what ``run_schedule`` would train on Ray.

    Attributes:
        rounds: for each call, the learning rate of each trial and the epochs that it stops after (None: its end).
        killed_after: epochs in all after which the driver dies; None: never.
        interrupted_after: the same for Ctrl-C, which a trial leaves at an epoch's end.
    """

    def __init__(self) -> None:
        self.rounds: list[list[tuple[float, int | None]]] = []
        self.killed_after: int | None = None
        self.interrupted_after: int | None = None

    def __call__(self, specs: Sequence[TrialSpec], *, store: Store, **more: Any) -> ScheduleOutcome:
        """See ``run_schedule``."""
        assert lock_owner(store.results_dir) is not None, "nobody trains without the lock"
        self.rounds.append([(one.recipe.optimiser.learning_rate, one.execution.stop_after_epochs) for one in specs])
        try:
            for spec in specs:
                run_spec(spec, Hooks(on_epoch=lambda _: self._count(store)), train=run_trial)
        except KeyboardInterrupt:
            return ScheduleOutcome(0, 0, 0, interrupted=True)
        return ScheduleOutcome(0, 0, 0, interrupted=False)

    def _count(self, store: Store) -> None:
        count = sum(trained(store.results_dir).values())
        if count == self.killed_after:
            raise Killed
        if count == self.interrupted_after:
            raise KeyboardInterrupt


def reach(store: Store, spec: TrialSpec, epochs: int, score: float, *, metrics: bool = True) -> None:
    """Leave a trial that was trained for so many epochs."""
    work = store.work_folder(spec)
    (work / CHECKPOINT_FILE).write_bytes(b"checkpoint")
    write_progress(work, epoch_line(epochs - 1, 0, score), metrics=metrics)


def planned(folder: Path, text: str = TABLE, trials: int | None = None) -> Search:
    """The search of the test's row, with its tables and results in the folder."""
    row = find_row(load_tables(write_tables(folder / "tables", text)), "toy/sought")
    placement = Placement(checkpoint_minutes=0.0)
    return plan_search(row, "smoke", seed=0, trials=trials, placement=placement, results_dir=folder / "results")
