"""The store as frames: one line a trial found, one line an epoch. Accuracies are in percent here."""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports.files import read_bytes
from reports.records import COSTS, HISTORY_FILE, PROVENANCE_TEXTS, read_trial
from reports.rows import ReportRow, Rows, parse_rows
from reports.verdicts import PAPER_SCALE

log = logging.getLogger(__name__)

_SEED_FOLDER = re.compile(r"seed-(\d{1,9})(\.work)?")
_LARGEST_HISTORY = 64 << 20  # bytes; 400 epochs take 40,000
_MOST_EPOCHS = 1_000_000
UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError, OverflowError, MemoryError)
_LARGEST_COUNT = 2.0**53  # whole numbers beyond it are not exact, and no graph is that large
_LONGEST_NAME = 255  # of a folder, on every file system in use

# status: done | failed | running (also: was interrupted) | unreadable
TRIAL_COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "fingerprint": "string",
    "seed": "Int64",
    "planned": "boolean",  # part of the report's numbers
    "status": "string",
    "reason": "string",
    "scale": "string",
    "epochs": "Int64",
    "epochs_done": "Int64",
    "accuracy": "float64",  # percent, last epoch
    "test_loss": "float64",
    "train_loss": "float64",
    "top5_accuracy": "float64",  # percent, last epoch; of trials that computed it
    "best_accuracy": "float64",  # percent, best epoch on the test set
    "best_epoch": "Int64",  # counted from 0
    **dict.fromkeys(COSTS, "Int64"),
    "applications": "float64",  # of the graph to an image
    "seconds": "float64",
    "peak_memory_bytes": "Int64",
    "network_kind": "string",  # of the recipe
    "wiring_rule": "string",
    **dict.fromkeys(PROVENANCE_TEXTS, "string"),
    "dirty": "boolean",
    "threads": "Int64",
    "resumed": "Int64",
    "packages": "string",  # JSON
    "log_tail": "string",
    "folder": "string",  # below the results folder
}
_HISTORY_NUMBERS = ("epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
# a history without one of these still gives its curves
_HISTORY_COUNTS = ("edges", "edges_swapped", "live_edges", "live_nodes")
HISTORY_COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "fingerprint": "string",
    "seed": "Int64",
    **dict.fromkeys((*_HISTORY_NUMBERS, *_HISTORY_COUNTS), "float64"),  # accuracies in percent; NaN: not known
}


def frame(records: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Return the records as a frame with exactly these typed columns, also when there is no record."""
    data = {name: pd.Series([record.get(name) for record in records], dtype=kind) for name, kind in columns.items()}
    return pd.DataFrame(data, columns=list(columns))


def read_trials(results_dir: Path, rows: Rows) -> pd.DataFrame:
    """Return one line per trial found for the rows (``TRIAL_COLUMNS``), in the rows' order, then by seed.

    A folder that cannot be read becomes a line with status ``unreadable`` and the reason; it never raises.
    A seed that stands both finished and unfinished counts as finished.
    """
    records: list[dict[str, Any]] = []
    for row in parse_rows(rows, PAPER_SCALE):
        for seed, folder in _seed_folders(results_dir, row):
            identity = {"table": row.table, "row": row.row, "fingerprint": row.fingerprint, "seed": seed}
            values = read_trial(folder, identity)
            if values["status"] == "done":
                values = _refuse_contradiction(folder, values)
            place = {"planned": seed in row.seeds, "folder": folder.relative_to(results_dir).as_posix()}
            records.append(values | identity | place)
    return frame(records, TRIAL_COLUMNS)


def read_history(results_dir: Path, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of the finished trials (``HISTORY_COLUMNS``), accuracies in percent.

    A trial without a usable ``history.parquet`` is left out, with a line in the log.
    """
    parts = []
    for trial in trials[trials["status"] == "done"].to_dict("records"):
        try:
            part = _read_history_file(results_dir / trial["folder"] / HISTORY_FILE)
        except UNREADABLE as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("%s/%s cannot be drawn: %s", trial["folder"], HISTORY_FILE, first)
            continue
        for name in ("table", "row", "fingerprint", "seed"):
            part[name] = trial[name]
        parts.append(part)
    if not parts:
        return frame([], HISTORY_COLUMNS)
    together = pd.concat(parts, ignore_index=True)
    return together[list(HISTORY_COLUMNS)].astype(HISTORY_COLUMNS)


def _read_history_file(path: Path) -> pd.DataFrame:
    source = pq.ParquetFile(io.BytesIO(read_bytes(path, _LARGEST_HISTORY)))
    if not 0 < source.metadata.num_rows <= _MOST_EPOCHS:
        raise ValueError(f"it claims {source.metadata.num_rows} epochs; 1 to {_MOST_EPOCHS} are read")
    there = [name for name in source.schema_arrow.names if name in _HISTORY_COUNTS]
    table = source.read(columns=[*_HISTORY_NUMBERS, *there])
    # types and values only: what else a file says of its columns (pandas reads it) is not asked for
    read = pd.DataFrame({name: _numbers(table, name) for name in (*_HISTORY_NUMBERS, *there)})
    part: pd.DataFrame = read[list(_HISTORY_NUMBERS)].astype("float64").replace([math.inf, -math.inf], math.nan)
    for name in _HISTORY_COUNTS:
        counts = pd.to_numeric(read[name], errors="coerce").astype("float64") if name in there else math.nan
        part[name] = counts
        part[name] = part[name].where(part[name].between(0, _LARGEST_COUNT))
    epochs = part["epoch"]
    if not (epochs.between(0, _MOST_EPOCHS) & (epochs % 1 == 0)).all() or epochs.duplicated().any():
        raise ValueError("its epochs are no whole numbers, each once")
    for name in ("train_accuracy", "test_accuracy"):
        if not (part[name].between(0, 1) | part[name].isna()).all():
            raise ValueError(f"{name} must lie in 0..1")
        part[name] = 100 * part[name]
    return part.sort_values("epoch")


def _numbers(table: pa.Table, name: str) -> Any:
    column = table.column(name)  # KeyError: not there, or twice
    if name in _HISTORY_COUNTS and pa.types.is_string(column.type):
        return pd.to_numeric(pd.Series(column.to_pylist(), dtype=object), errors="coerce").to_numpy()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"column {name} holds {column.type}, not numbers")
    return column.cast(pa.float64(), safe=False).to_numpy()


def _refuse_contradiction(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Hold a finished trial's scores against its history, where there is one to be read."""
    try:
        history = _read_history_file(folder / HISTORY_FILE)
    except UNREADABLE:
        return values
    accuracies, epochs = history["test_accuracy"], history["epoch"].iloc[-1]
    for name, printed, found in (
        ("last accuracy", values["accuracy"], accuracies.iloc[-1]),
        ("best accuracy", values["best_accuracy"], accuracies.max()),
        ("last epoch", values["epochs_done"], epochs + 1),
        ("best epoch", values["best_epoch"], min(values["best_epoch"] or 0, epochs)),
    ):
        if printed is not None and not math.isclose(printed, found, abs_tol=1e-9):
            return {"status": "unreadable", "reason": f"its {name} is not the one in {HISTORY_FILE}"}
    return values


def _seed_folders(results_dir: Path, row: ReportRow) -> Iterator[tuple[int, Path]]:
    """Yield each seed found with its folder: the finished one where there are both."""
    if not all(_is_folder_name(part) for part in row.key):
        return
    found: dict[int, Path] = {}
    try:
        folders = sorted((results_dir / "trials").joinpath(*row.key).iterdir())
    except OSError:  # nothing was run yet, or it is not a folder
        return
    for folder in folders:
        match = _SEED_FOLDER.fullmatch(folder.name)
        if match is None or str(int(match[1])) != match[1]:
            continue
        seed = int(match[1])
        if seed not in found or not folder.name.endswith(".work"):
            found[seed] = folder
    yield from sorted(found.items())


def _is_folder_name(name: str) -> bool:
    """Whether the name stands for one folder, not for a way out of the results folder."""
    unsafe = name in ("", ".", "..") or any(character in name for character in "/\\\0")
    return not unsafe and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME
