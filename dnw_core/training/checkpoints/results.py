"""What a trial writes beside its checkpoint: history, edges found, progress, and the record last of all."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from torch import Tensor

from dnw_core.files import sha256_of, write_atomically, write_text
from dnw_core.models.graph import GraphNetwork, Liveness
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_COLUMNS,
    HISTORY_FILE,
    LOG_FILE,
    PROGRESS_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    WIRING_FILE,
    EpochMetrics,
    Scores,
    TrialRecord,
    record_text,
)
from dnw_core.task import TrialTask
from dnw_core.training.checkpoints.checkpoint import PREVIOUS_FILE
from dnw_core.training.checkpoints.provenance import collect_provenance, peak_memory_bytes
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.state import TrainingState

# of a graph's slots: when fewer are kept, wiring.npz lists them (nine bytes each), else it has a bit for every slot
LISTED_DENSITY = 1 / 16


def write_result(
    task: TrialTask, state: TrainingState, masks: dict[str, Tensor], data_checksum: str, log: TrialLog
) -> TrialRecord:
    """Write history, edges and log of a finished trial and, last of all, its record, which is returned.

    Args:
        task: the trial.
        state: its last one.
        masks: kept edges by graph name.
        data_checksum: of its images.
        log: its log, which ends here.
    """
    folder, network = task.folder, cast(GraphNetwork, state.model)
    cost = network.cost(masks)
    write_history(folder / HISTORY_FILE, state.history)
    write_wiring(folder / WIRING_FILE, masks, network.liveness(masks))
    last, best = state.history[-1], best_of(state.history)
    log.write(f"done: last {last.test_accuracy:.2%}, best {best.test_accuracy:.2%} at epoch {best.epoch}")
    (folder / PREVIOUS_FILE).unlink(missing_ok=True)
    record = TrialRecord(
        **task.identity.model_dump(),
        version=RECORD_VERSION,
        seed=task.seed,
        recipe=task.recipe,
        status="done",
        last=scores_of(last),
        best=scores_of(best),
        cost=cost,
        provenance=collect_provenance(state, data_checksum),
        train_seconds=state.seconds,
        peak_memory_bytes=peak_memory_bytes(state.device),
        files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
    )
    write_text(folder / RECORD_FILE, record_text(record))
    return record


def write_history(path: Path, history: list[EpochMetrics]) -> None:
    """Write one line an epoch as Parquet, with the columns of ``record.HISTORY_COLUMNS``."""
    schema = pa.schema(list(HISTORY_COLUMNS.items()))
    table = pa.Table.from_pylist([line.model_dump() for line in history], schema=schema)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # pyarrow takes "a:b/history.parquet" for an address
            parquet.write_table(table, file)

    write_atomically(path, write)


def write_wiring(path: Path, masks: dict[str, Tensor], liveness: dict[str, Liveness]) -> None:
    """Write the kept edges of every graph (see docs/architecture.md for the arrays).

    Lists of edges where few slots are kept; else a bit for every slot and a bit for every edge, which the 25 million
    edges of a dense ResNet-50 can be written as in a moment.

    Args:
        path: the file.
        masks: kept edges by graph name, [receivers, senders, ...]; a column counts all that follows the receivers.
        liveness: what of them is live, by graph name.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        kept = mask.cpu().flatten(1).numpy()
        live = liveness[name].edges.cpu().flatten(1).numpy()[kept]
        arrays[f"{name}.shape"] = np.array(kept.shape, dtype=np.int64)
        if len(live) > LISTED_DENSITY * kept.size:
            arrays[f"{name}.kept_bits"], arrays[f"{name}.live_bits"] = np.packbits(kept), np.packbits(live)
            continue
        rows, columns = kept.nonzero()
        arrays[f"{name}.rows"], arrays[f"{name}.columns"] = rows.astype(np.int32), columns.astype(np.int32)
        arrays[f"{name}.live"] = live

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomically(path, write)


def write_progress(task: TrialTask, state: TrainingState, saved: int) -> None:
    """Write the heartbeat that ``--status`` and the live table read; ``saved`` is the epoch of the last checkpoint."""
    progress = {
        "epoch": state.epoch,
        "saved": saved,
        "epochs": task.recipe.epochs,
        "metrics": state.history[-1].model_dump() if state.history else None,
        "seconds": state.seconds,
        "updated": time.time(),
        "host": platform.node(),
        "pid": os.getpid(),
    }
    write_text(task.folder / PROGRESS_FILE, json.dumps(progress))


def format_epoch(line: EpochMetrics) -> str:
    """Return an epoch's line of the log."""
    return (
        f"epoch {line.epoch}: rate {line.learning_rate:.4g}, train {line.train_loss:.4f} "
        f"{line.train_accuracy:.2%}, test {line.test_loss:.4f} {line.test_accuracy:.2%}, "
        f"{line.live_edges} live edges, {line.edges_swapped} swapped, {line.seconds:.1f} s"
    )


def scores_of(line: EpochMetrics) -> Scores:
    """Return the scores of one epoch."""
    return Scores(**line.model_dump(include=set(Scores.model_fields)))


def best_of(history: list[EpochMetrics]) -> EpochMetrics:
    """Return the epoch of highest test accuracy, the earliest on ties (the papers' "best": facts 0.8)."""
    return max(history, key=lambda line: (line.test_accuracy, -line.epoch))
