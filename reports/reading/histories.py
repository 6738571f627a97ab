"""One trial's ``history.parquet`` as arrays: types and values only, no metadata of the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dnw_core.files import read_bytes, refuse_link

UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError, OverflowError, MemoryError)
NUMBERS = ("epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
# a history without one of these still gives its curves
COUNTS = ("edges", "edges_swapped", "live_edges", "live_nodes")

_LARGEST_FILE = 64 << 20  # bytes; 400 epochs take 40,000
_MOST_EPOCHS = 1_000_000
_LARGEST_COUNT = 2.0**53  # whole numbers beyond it are not exact, and no graph is that large

Column: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def read_history_file(path: Path) -> dict[str, Column]:
    """Return the epochs in their order: ``NUMBERS`` and ``COUNTS``, accuracies in percent, NaN where not known.

    Raises:
        one of ``UNREADABLE``: if it is not a history, or holds a value that no history can hold.
    """
    refuse_link(path)
    source = pq.ParquetFile(io.BytesIO(read_bytes(path, _LARGEST_FILE)))
    epochs_claimed = source.metadata.num_rows
    if not 0 < epochs_claimed <= _MOST_EPOCHS:
        raise ValueError(f"it claims {epochs_claimed} epochs; 1 to {_MOST_EPOCHS} are read")
    there = [name for name in source.schema_arrow.names if name in COUNTS]
    table = source.read(columns=[*NUMBERS, *there])
    columns: dict[str, Column] = {}
    for name in NUMBERS:
        read = _numbers(table, name)
        columns[name] = np.where(np.isfinite(read), read, np.nan)
    for name in COUNTS:
        counts = _numbers(table, name) if name in there else np.full(table.num_rows, np.nan)
        columns[name] = np.where((counts >= 0) & (counts <= _LARGEST_COUNT), counts, np.nan)
    epochs = columns["epoch"]
    if not ((epochs >= 0) & (epochs <= _MOST_EPOCHS) & (epochs % 1 == 0)).all() or len(np.unique(epochs)) < len(epochs):
        raise ValueError("its epochs are not distinct whole numbers")
    for name in ("train_accuracy", "test_accuracy"):
        share = columns[name]
        if not ((share >= 0) & (share <= 1) | np.isnan(share)).all():
            raise ValueError(f"{name} must be between 0 and 1")
        columns[name] = 100 * share
    order = np.argsort(epochs, kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _numbers(table: pa.Table, name: str) -> Column:
    column = table.column(name)  # KeyError: not there, or twice
    if name in COUNTS and pa.types.is_string(column.type):
        return pd.to_numeric(pd.Series(column.to_pylist(), dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"column {name} holds {column.type}, not numbers")
    values: Column = column.cast(pa.float64(), safe=False).to_numpy()
    return values
