"""A trial that learns nothing, quickly: what ``dnw_core.training.run_trial`` promises, without the training or torch.

What it does is in the row's name, so that it needs no channel into a worker process of Ray's.
"""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dnw_core.errors import TrialFailedError, TrialStopped
from dnw_core.files import sha256_of, write_text
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_COLUMNS,
    HISTORY_FILE,
    LOG_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    WIRING_FILE,
    Cost,
    EpochMetrics,
    Provenance,
    Scores,
    TrialRecord,
)
from dnw_core.task import Hooks, TrialTask

RELEASED = "released"
"""A file in the results folder: trials whose row begins with "held" end their epochs once it is there."""

NODES = 6
_PACKAGES = ("mlflow", "numpy", "pyarrow", "ray", "torch", "torchdiffeq", "torchvision")  # as many as a real record has


def run_trial(task: TrialTask, hooks: Hooks) -> TrialRecord:
    """Write a finished trial, or fail, raise, die, be held, slow or deaf as the row's name says."""
    row, folder = task.identity.row, task.folder
    started = datetime.now(UTC)
    with (folder / LOG_FILE).open("a") as log:
        parent = f" from {task.parent}" if task.parent else ""
        log.write(f"process {os.getpid()} begins {row} seed {task.seed}{parent}\n")
    assert (task.parent is None) == (task.recipe.parent is None)
    (folder / CHECKPOINT_FILE).write_bytes(b"checkpoint")
    if row.startswith("fails"):
        raise TrialFailedError("the loss is nan at epoch 0, step 3")
    if row.startswith("raises"):
        raise KeyError("a bug")
    if row.startswith("always-dies") or (row.startswith("dies-once") and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    epochs = [epoch_line(epoch, task.seed) for epoch in range(task.recipe.epochs)]
    for epoch in epochs:
        until = time.monotonic() + _epoch_seconds(row)
        while time.monotonic() < until and not (row.startswith("held") and (folder.parents[4] / RELEASED).exists()):
            time.sleep(0.01)
            if not row.startswith("deaf") and hooks.should_stop():
                (folder / "stopped").touch()
                raise TrialStopped
        hooks.on_epoch(epoch)
    return write_result(task, epochs, started)


def _epoch_seconds(row: str) -> float:
    """How long an epoch lasts; one that is held, at the most."""
    if row.startswith("held"):
        return 20.0
    return 3.0 if row.startswith(("slow", "deaf")) else 0.01


def write_result(task: TrialTask, epochs: list[EpochMetrics], started: datetime) -> TrialRecord:
    """Write the files of a finished trial beside its checkpoint and log, its record last."""
    folder, last = task.folder, epochs[-1]
    lines = [epoch.model_dump() for epoch in epochs]
    columns = {name: pa.array([line[name] for line in lines], kind) for name, kind in HISTORY_COLUMNS.items()}
    pq.write_table(pa.table(columns), folder / HISTORY_FILE)
    nodes = np.arange(NODES, dtype=np.int32)
    wiring = {"graph.rows": nodes, "graph.columns": nodes[::-1].copy(), "graph.live": np.ones(NODES, bool)}
    np.savez(folder / WIRING_FILE, **wiring, **{"graph.shape": np.array([NODES, NODES], dtype=np.int64)})
    scores = Scores(**last.model_dump(include=set(Scores.model_fields)))
    record = TrialRecord(
        **task.identity.model_dump(),
        version=RECORD_VERSION,
        seed=task.seed,
        recipe=task.recipe,
        status="done",
        last=scores,
        best=scores,
        cost=Cost.model_validate(dict.fromkeys(Cost.model_fields, 100) | {"applications": 1.0}),
        provenance=Provenance(
            commit="0" * 40,
            dirty=False,
            packages=dict.fromkeys(_PACKAGES, "0"),
            python="3",
            hostname="stub",
            processor="stub",
            accelerator="",
            device=task.execution.device,
            threads=task.execution.threads,
            data_checksum="",
            started_at=started.isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            resumed=0,
        ),
        train_seconds=sum(epoch.seconds for epoch in epochs),
        peak_memory_bytes=2**20,
        files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
    )
    write_text(folder / RECORD_FILE, record.model_dump_json(indent=2))
    return record


def epoch_line(epoch: int, seed: int, accuracy: float | None = None, seconds: float = 0.25) -> EpochMetrics:
    """One epoch, counted from 0; its accuracy rises with epoch and seed if it is not given."""
    reached = min(1.0, 0.5 + 0.1 * epoch + 0.01 * seed) if accuracy is None else accuracy
    return EpochMetrics(
        epoch=epoch,
        learning_rate=0.1,
        train_loss=1.0 / (epoch + 1),
        train_accuracy=reached,
        test_loss=1.1 / (epoch + 1),
        test_accuracy=reached,
        edges=NODES,
        edges_swapped=0,
        live_edges=NODES,
        live_nodes=NODES,
        seconds=seconds,
    )
