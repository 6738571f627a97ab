"""A trial that learns nothing, at once, in place of ``dnw_core.training.run_trial``; its files are small and valid.

What is left of a run with such trials is what the driver costs (``benchmarks/driver_cost.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dnw_core.config.execution import Execution
from dnw_core.config.recipe import Recipe
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
from dnw_core.training import TrialIdentity

_NODES = 32
_PACKAGES = ("mlflow", "numpy", "pyarrow", "ray", "torch", "torchdiffeq", "torchvision")  # as many as a real record has


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
    """Tell every epoch and write a finished trial."""
    started = datetime.now(UTC).isoformat()
    epochs = [_epoch(epoch, seed) for epoch in range(recipe.epochs)]
    for epoch in epochs:
        if on_epoch is not None:
            on_epoch(epoch)
    _write_history(epochs, folder / HISTORY_FILE)
    nodes = np.arange(_NODES, dtype=np.int32)
    wiring = {"graph.rows": nodes, "graph.columns": nodes[::-1].copy(), "graph.live": np.ones(_NODES, bool)}
    np.savez(folder / WIRING_FILE, **wiring, **{"graph.shape": np.array([_NODES, _NODES], dtype=np.int64)})
    (folder / CHECKPOINT_FILE).write_bytes(b"checkpoint")
    (folder / LOG_FILE).write_text(f"{identity.row} seed {seed}\n")
    record = _record(recipe, seed, execution, folder, identity, epochs[-1], started)
    write_text(folder / RECORD_FILE, record.model_dump_json(indent=2) + "\n")
    return record


def _write_history(epochs: list[EpochMetrics], path: Path) -> None:
    lines = [epoch.model_dump() for epoch in epochs]
    columns = {name: pa.array([line[name] for line in lines], kind) for name, kind in HISTORY_COLUMNS.items()}
    pq.write_table(pa.table(columns), path)


def _record(
    recipe: Recipe,
    seed: int,
    execution: Execution,
    folder: Path,
    identity: TrialIdentity,
    last: EpochMetrics,
    started: str,
) -> TrialRecord:
    scores = Scores(
        epoch=last.epoch, test_accuracy=last.test_accuracy, test_loss=last.test_loss, train_loss=last.train_loss
    )
    return TrialRecord(
        version=RECORD_VERSION,
        table=identity.table,
        row=identity.row,
        seed=seed,
        scale=identity.scale,
        fingerprint=identity.fingerprint,
        recipe=recipe,
        status="done",
        last=scores,
        best=scores,
        cost=Cost.model_validate(dict.fromkeys(Cost.model_fields, 100) | {"applications": 1.0}),
        provenance=Provenance(
            commit="0" * 40,
            dirty=False,
            packages=dict.fromkeys(_PACKAGES, "0.0.0"),
            python="3",
            hostname="nowhere",
            processor="none",
            accelerator="",
            device=execution.device,
            threads=execution.threads,
            data_checksum="0" * 64,
            started_at=started,
            finished_at=datetime.now(UTC).isoformat(),
            resumed=0,
        ),
        train_seconds=last.seconds * (last.epoch + 1),
        peak_memory_bytes=2**20,
        files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
    )


def _epoch(epoch: int, seed: int) -> EpochMetrics:
    accuracy = 0.5 + 0.2 * epoch / (epoch + 1) + 0.0001 * seed
    return EpochMetrics(
        epoch=epoch,
        learning_rate=0.1,
        train_loss=1.0 / (epoch + 1),
        train_accuracy=accuracy,
        test_loss=1.1 / (epoch + 1),
        test_accuracy=accuracy,
        edges=_NODES,
        edges_swapped=epoch,
        live_edges=_NODES,
        live_nodes=_NODES,
        seconds=0.25,
    )
