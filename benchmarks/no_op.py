"""A trial that learns nothing and ends at once, for ``dnw_core.training.run_trial``; its files are small and valid.

The remaining cost of a run with such trials is the driver's (``benchmarks/driver_cost.py``).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.stubs.training import epoch_line, write_result

from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, TrialRecord
from dnw_core.task import Hooks, TrialTask


def run_trial(task: TrialTask, hooks: Hooks) -> TrialRecord:
    """Report every epoch and write a finished trial."""
    started = datetime.now(UTC)
    epochs = [epoch_line(epoch, task.seed) for epoch in range(task.recipe.epochs)]
    for epoch in epochs:
        hooks.on_epoch(epoch)
    (task.folder / CHECKPOINT_FILE).write_bytes(b"checkpoint")
    (task.folder / LOG_FILE).write_text(f"{task.identity.row} seed {task.seed}\n")
    return write_result(task, epochs, started)
