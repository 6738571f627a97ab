"""What a configuration leaves in its folder for the search: its epochs so far, and the mark that it was given up.

``curve.json`` grows by an epoch at a time while it trains (the checkpoint holds the same, but needs torch to read it);
a finished trial has ``history.parquet`` instead. ``stopped.json`` says that the scheduler gave the configuration up.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from dnw_core.config import Config
from dnw_core.files import read_json, write_text
from dnw_core.record import HISTORY_FILE, EpochMetrics
from pipelines.store import work_folder

CURVE_FILE = "curve.json"
STOPPED_FILE = "stopped.json"


class Stopped(Config):
    """Where a configuration was given up."""

    epoch: int  # epochs trained
    accuracy: float  # on the validation images, a fraction
    time: int  # milliseconds since 1970


@dataclass(frozen=True)
class Curve:
    """The epochs that were trained so far, in order."""

    started: int  # milliseconds since 1970
    epochs: tuple[EpochMetrics, ...]

    def grown(self, *lines: EpochMetrics) -> Curve:
        """Return the curve with more epochs; an epoch that was trained again after a damaged checkpoint counts once."""
        by_epoch = {line.epoch: line for line in (*self.epochs, *lines)}
        return Curve(self.started, tuple(by_epoch[epoch] for epoch in sorted(by_epoch)))

    def write(self, work: Path) -> None:
        """Write the curve into a working folder."""
        values = {"started": self.started, "epochs": [line.model_dump() for line in self.epochs]}
        write_text(work / CURVE_FILE, json.dumps(values))


def read_curve(folder: Path) -> Curve:
    """Return the curve of a trial, finished or not; an empty one where there is none that can be read.

    Args:
        folder: the folder of the finished trial (``Store.folder``).
    """
    if (folder / HISTORY_FILE).is_file():
        return Curve(0, tuple(_read_history(folder / HISTORY_FILE)))
    values = read_json(work_folder(folder) / CURVE_FILE)
    try:
        lines = [EpochMetrics.model_validate(line) for line in values["epochs"]]
        return Curve(int(values["started"]), tuple(lines))
    except (TypeError, KeyError, ValueError, ValidationError):  # none yet, or cut off on a full disk
        return Curve(int(1000 * time.time()), ())


def read_stopped(folder: Path) -> Stopped | None:
    """Return where the trial of ``folder`` was given up; None if it was not."""
    values = read_json(work_folder(folder) / STOPPED_FILE)
    try:
        return Stopped.model_validate(values)
    except ValidationError:
        return None


def write_stopped(folder: Path, epoch: int, accuracy: float) -> None:
    """Mark the trial of ``folder`` as given up after ``epoch`` epochs."""
    stopped = Stopped(epoch=epoch, accuracy=accuracy, time=int(1000 * time.time()))
    write_text(work_folder(folder) / STOPPED_FILE, stopped.model_dump_json() + "\n")


def _read_history(path: Path) -> list[EpochMetrics]:
    import pyarrow.parquet as pq

    # partitioning=None: folder names such as row@key=value are not columns
    return [EpochMetrics.model_validate(line) for line in pq.read_table(path, partitioning=None).to_pylist()]
