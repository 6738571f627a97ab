"""The store as frames: one line per trial, one line per epoch. Accuracies are in percent."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from dnw_core.record import HISTORY_FILE
from reports.reading.histories import COUNTS, NUMBERS, UNREADABLE, Column, read_history_file
from reports.reading.records import COSTS, PROVENANCE_TEXTS, read_trial
from reports.rows import ReportRow, Rows, parse_rows
from reports.verdicts import PAPER_SCALE

log = logging.getLogger(__name__)

_SEED_FOLDER = re.compile(r"seed-(\d{1,9})(\.work)?")
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
Histories: TypeAlias = dict[str, dict[str, Column]]  # by the trial's folder, below the results folder
IDENTITY = ("table", "row", "fingerprint", "seed")
HISTORY_COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "fingerprint": "string",
    "seed": "Int64",
    **dict.fromkeys((*NUMBERS, *COUNTS), "float64"),  # accuracies in percent; NaN: not known
}


def frame(records: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """Return the records as a frame with exactly these typed columns, also when there is no record."""
    data = {name: pd.Series([record.get(name) for record in records], dtype=kind) for name, kind in columns.items()}
    return pd.DataFrame(data, columns=list(columns))


def read_trials(results_dir: Path, rows: Rows, histories: Histories | None = None) -> pd.DataFrame:
    """Return one line per trial found for the rows (``TRIAL_COLUMNS``), in the rows' order, then by seed.

    A folder that cannot be read becomes a line with status ``unreadable`` and the reason; it never raises.
    A seed that is both finished and unfinished counts as finished.

    Args:
        results_dir: the results folder.
        rows: what the report shows.
        histories: receives the histories that are read on the way, for ``read_history``.
    """
    histories = {} if histories is None else histories
    records: list[dict[str, Any]] = []
    for row in parse_rows(rows, PAPER_SCALE):
        for seed, folder in _seed_folders(results_dir, row):
            identity = {"table": row.table, "row": row.row, "fingerprint": row.fingerprint, "seed": seed}
            values = read_trial(folder, identity)
            name = folder.relative_to(results_dir).as_posix()
            if values["status"] == "done":
                try:
                    histories[name] = read_history_file(folder / HISTORY_FILE)
                except UNREADABLE:  # ``read_history`` logs it
                    pass
                else:
                    values = _refuse_contradiction(histories[name], values)
            records.append(values | identity | {"planned": seed in row.seeds, "folder": name})
    return frame(records, TRIAL_COLUMNS)


def read_history(results_dir: Path, trials: pd.DataFrame, histories: Histories | None = None) -> pd.DataFrame:
    """Return the epochs of the finished trials (``HISTORY_COLUMNS``), accuracies in percent.

    A trial without a usable ``history.parquet`` is left out, with a line in the log.

    Args:
        results_dir: the results folder.
        trials: ``read_trials``'s frame.
        histories: what it has read already.
    """
    known = histories or {}
    parts: list[dict[str, Column]] = []
    owners: list[tuple[Any, ...]] = []
    for trial in trials.loc[trials["status"] == "done", [*IDENTITY, "folder"]].to_dict("records"):
        try:
            there = known.get(trial["folder"])
            parts.append(read_history_file(results_dir / trial["folder"] / HISTORY_FILE) if there is None else there)
        except UNREADABLE as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            log.warning("%s/%s cannot be drawn: %s", trial["folder"], HISTORY_FILE, first)
            continue
        owners.append(tuple(trial[name] for name in IDENTITY))
    if not parts:
        return frame([], HISTORY_COLUMNS)
    # whole columns at once: a frame per trial would take longer than the rest of the report
    epochs = [len(part["epoch"]) for part in parts]
    columns: dict[str, Any] = {
        name: pd.Series(values, dtype=HISTORY_COLUMNS[name]).repeat(epochs).reset_index(drop=True)
        for name, values in zip(IDENTITY, zip(*owners, strict=True), strict=True)
    }
    columns |= {name: np.concatenate([part[name] for part in parts]) for name in (*NUMBERS, *COUNTS)}
    return pd.DataFrame(columns, columns=list(HISTORY_COLUMNS)).astype(HISTORY_COLUMNS)


def _refuse_contradiction(history: dict[str, Column], values: dict[str, Any]) -> dict[str, Any]:
    """Compare a finished trial's scores with its history."""
    accuracies, epochs = history["test_accuracy"], history["epoch"][-1]
    for name, printed, found in (
        ("last accuracy", values["accuracy"], accuracies[-1]),
        ("best accuracy", values["best_accuracy"], np.fmax.reduce(accuracies)),
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
    """Whether the name is that of one folder, not a way out of the results folder."""
    unsafe = name in ("", ".", "..") or any(character in name for character in "/\\\0")
    return not unsafe and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME
