"""One trial's history as the report reads it: in order, finite, in percent, and nothing that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from reports.reading.histories import COUNTS, NUMBERS, UNREADABLE, read_history_file


def write(path: Path, **columns: Any) -> Path:
    """Write a history of three epochs, out of order, with some columns replaced, or left out where None is given."""
    values: dict[str, Any] = {
        "epoch": pa.array([2, 0, 1], pa.int32()),
        "learning_rate": [0.1, 0.3, 0.2],
        "train_loss": [1.0, 3.0, 2.0],
        "train_accuracy": [0.5, 0.25, 0.375],
        "test_loss": [1.5, 3.5, 2.5],
        "test_accuracy": [0.75, 0.125, 0.5],
        **{name: [30, 10, 20] for name in COUNTS},
    } | columns
    parquet.write_table(pa.table({name: value for name, value in values.items() if value is not None}), path)
    return path


def test_epochs_come_in_order_and_accuracies_in_percent(tmp_path: Path) -> None:
    """Worked out by hand; every column is a float64."""
    read = read_history_file(write(tmp_path / "history.parquet"))
    assert set(read) == {*NUMBERS, *COUNTS}
    assert {values.dtype for values in read.values()} == {np.dtype("float64")}
    assert read["epoch"].tolist() == [0, 1, 2]
    assert read["learning_rate"].tolist() == [0.3, 0.2, 0.1]
    assert read["test_accuracy"].tolist() == [12.5, 50.0, 75.0]
    assert read["train_accuracy"].tolist() == [25.0, 37.5, 50.0]
    assert read["edges"].tolist() == [10, 20, 30]


def test_what_is_no_number_is_not_known(tmp_path: Path) -> None:
    """Infinite losses, negative and inexact counts, text that is no number, and a column that is not there."""
    path = write(
        tmp_path / "history.parquet",
        test_loss=[float("inf"), 3.5, float("-inf")],
        edges=[-1.0, 2.0**53, 2.0**53 + 2],
        edges_swapped=["7", "many", None],
        live_edges=None,
    )
    read = read_history_file(path)
    np.testing.assert_array_equal(read["test_loss"], [3.5, np.nan, np.nan])
    np.testing.assert_array_equal(read["edges"], [2.0**53, np.nan, np.nan])
    np.testing.assert_array_equal(read["edges_swapped"], [np.nan, np.nan, 7])
    assert np.isnan(read["live_edges"]).all()


@pytest.mark.parametrize(
    "columns",
    [
        {"epoch": [0, 1, 1]},
        {"epoch": [0, 1, -1]},
        {"epoch": [0.0, 1.0, 1.5]},
        {"epoch": [0.0, 1.0, float("nan")]},
        {"epoch": ["0", "1", "2"]},
        {"epoch": None},
        {"test_accuracy": [0.5, 0.5, 1.01]},
        {"train_accuracy": [0.5, 0.5, -0.01]},
        {"train_loss": ["1", "2", "3"]},
    ],
    ids=str,
)
def test_no_history(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Epochs that are not whole numbers, each once; shares beyond 0 to 1; text for numbers."""
    with pytest.raises(UNREADABLE):
        read_history_file(write(tmp_path / "history.parquet", **columns))
