"""A trial that learns nothing, quickly: what ``dnw_core.training.run_trial`` promises, without the training.

What it does is in the row's name, so that it needs no channel into a worker process of Ray's.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dnw_core.config.execution import Execution
from dnw_core.config.recipe import Recipe
from dnw_core.errors import TrialFailedError
from dnw_core.record import HISTORY_COLUMNS, Cost, EpochMetrics, Provenance, Scores, TrialRecord
from dnw_core.training import TrialIdentity, TrialStopped

RELEASED = "released"
"""A file in the results folder: trials whose row begins with "held" end their epochs once it is there."""

FILES = ("history.parquet", "wiring.npz", "checkpoint.pt", "log.txt")


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
    """Write a finished trial, or fail, raise, die, be held, slow or deaf as the row's name says."""
    row = identity.row
    started = datetime.now(UTC)
    with (folder / "log.txt").open("a") as log:
        log.write(f"process {os.getpid()} begins {row} seed {seed}{f' from {parent}' if parent else ''}\n")
    assert (parent is None) == (recipe.parent is None)
    (folder / "checkpoint.pt").write_bytes(b"checkpoint")
    if row.startswith("fails"):
        raise TrialFailedError("the loss is nan at epoch 0, step 3")
    if row.startswith("raises"):
        raise KeyError("a bug")
    if row.startswith("always-dies") or (row.startswith("dies-once") and not (folder / "died").exists()):
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    epochs = [_epoch(epoch, seed) for epoch in range(recipe.epochs)]
    for epoch in epochs:
        until = time.monotonic() + _epoch_seconds(row)
        while time.monotonic() < until and not (row.startswith("held") and (folder.parents[4] / RELEASED).exists()):
            time.sleep(0.01)
            if should_stop is not None and not row.startswith("deaf") and should_stop():
                (folder / "stopped").touch()
                raise TrialStopped
        if on_epoch is not None:
            on_epoch(epoch)
    return write_result(recipe, seed, execution, folder, identity, epochs, started)


def _epoch_seconds(row: str) -> float:
    """How long an epoch lasts; one that is held, at the most."""
    if row.startswith("held"):
        return 20.0
    return 3.0 if row.startswith(("slow", "deaf")) else 0.01


def write_result(
    recipe: Recipe,
    seed: int,
    execution: Execution,
    folder: Path,
    identity: TrialIdentity,
    epochs: list[EpochMetrics],
    started: datetime,
) -> TrialRecord:
    """Write the files of a finished trial, its record last."""
    lines = [epoch.model_dump() for epoch in epochs]
    columns = {name: pa.array([line[name] for line in lines], kind) for name, kind in HISTORY_COLUMNS.items()}
    pq.write_table(pa.table(columns), folder / "history.parquet")
    nodes = np.arange(6, dtype=np.int32)
    wiring = {"graph.rows": nodes, "graph.columns": nodes[::-1].copy(), "graph.live": np.ones(6, bool)}
    np.savez(folder / "wiring.npz", **wiring, **{"graph.shape": np.array([6, 6], dtype=np.int64)})
    numbers = dict.fromkeys(Cost.model_fields, 100) | {"applications": 1.0}
    last = epochs[-1]
    scores = Scores(
        epoch=last.epoch, test_accuracy=last.test_accuracy, test_loss=last.test_loss, train_loss=last.train_loss
    )
    record = TrialRecord(
        version=1,
        table=identity.table,
        row=identity.row,
        seed=seed,
        scale=identity.scale,
        fingerprint=identity.fingerprint,
        recipe=recipe,
        status="done",
        last=scores,
        best=scores,
        cost=Cost.model_validate(numbers),
        provenance=Provenance(
            commit="0" * 40,
            dirty=False,
            packages={"torch": "0"},
            python="3",
            hostname="stub",
            processor="stub",
            accelerator="",
            device=execution.device,
            threads=execution.threads,
            data_checksum="",
            started_at=started.isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            resumed=0,
        ),
        train_seconds=sum(epoch.seconds for epoch in epochs),
        files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES},
    )
    (folder / "trial.json").write_text(record.model_dump_json(indent=2))
    return record


def _epoch(epoch: int, seed: int) -> EpochMetrics:
    accuracy = min(1.0, 0.5 + 0.1 * epoch + 0.01 * seed)
    return EpochMetrics(
        epoch=epoch,
        learning_rate=0.1,
        train_loss=1.0 / (epoch + 1),
        train_accuracy=accuracy,
        test_loss=1.1 / (epoch + 1),
        test_accuracy=accuracy,
        edges=6,
        edges_swapped=0,
        live_edges=6,
        live_nodes=6,
        seconds=0.25,
    )
