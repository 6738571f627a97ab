"""What a trial leaves behind: the record in ``trial.json`` and the columns of ``history.parquet``.

Free of torch: the planner and the report read it. Accuracies are fractions, times are seconds, memory is
bytes. ``RECORD_VERSION`` rises when an old reader could misread a new record, or could not say why it refuses it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from dnw_core.config import Config
from dnw_core.recipe import Recipe

RECORD_VERSION = 3  # scores have a top-5 accuracy, and wiring.npz may hold bits: older readers know neither

RECORD_FILE = "trial.json"
HISTORY_FILE = "history.parquet"
WIRING_FILE = "wiring.npz"
CHECKPOINT_FILE = "checkpoint.pt"
LOG_FILE = "log.txt"
PROGRESS_FILE = "progress.json"

# one line an epoch; history.parquet has these columns in this order
HISTORY_COLUMNS: dict[str, str] = {
    "epoch": "int64",  # counted from 0
    "learning_rate": "float64",  # of the epoch's last step
    "train_loss": "float64",
    "train_accuracy": "float64",
    "test_loss": "float64",
    "test_accuracy": "float64",
    "edges": "int64",  # kept edges of all graphs, at the epoch's end
    "edges_swapped": "int64",  # edges kept now that were not kept at the epoch's start
    "live_edges": "int64",
    "live_nodes": "int64",
    "seconds": "float64",
    "test_top5_accuracy": "float64",  # empty for five classes or fewer, and absent from older files
}


class EpochMetrics(Config):
    """One epoch, as reported while the trial runs and as a line of the history."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    edges: int
    edges_swapped: int
    live_edges: int
    live_nodes: int
    seconds: float
    test_top5_accuracy: float | None = None


class Scores(Config):
    """Test scores at one epoch."""

    epoch: int
    test_accuracy: float
    test_loss: float
    train_loss: float
    test_top5_accuracy: float | None = None  # five classes or fewer, or an older record: None


class Cost(Config):
    """What the network needs, by the papers' rules (facts 2.3); ``dense`` as if every slot were an edge."""

    parameters: int  # nominal: kept edges + everything else that is trained (without the norms' affine ones)
    parameters_with_norm: int
    parameters_allocated: int  # all numbers in memory, hallucinated edges included
    live_parameters: int  # live edges + parameters of live nodes
    edges: int
    live_edges: int
    nodes: int
    live_nodes: int
    macs: int  # nominal: all kept edges, all nodes with an outgoing edge
    live_macs: int
    dense_macs: int
    applications: float = 1.0  # times the graph is applied to an image (continuous: measured mean of the last epoch)


class Provenance(Config):
    """Where a result comes from."""

    commit: str  # "unknown" outside a git checkout
    dirty: bool
    packages: dict[str, str]
    python: str
    hostname: str
    processor: str
    accelerator: str  # "" on a CPU
    device: str
    threads: int  # of each worker
    data_checksum: str
    started_at: str  # ISO 8601, UTC
    finished_at: str
    resumed: int  # times the trial went on from a checkpoint
    parent: str | None = None  # the finished trial that it started from, and the SHA-256 of that one's checkpoint
    workers: int = 1  # processes that shared its batches at the end, one device each; the others are the first one's


class TrialRecord(Config):
    """``trial.json``. ``status`` is ``done`` in a committed folder, ``failed`` in a working folder."""

    version: int = Field(ge=1)
    table: str
    row: str
    seed: int = Field(ge=0)
    scale: str
    fingerprint: str
    recipe: Recipe
    status: Literal["done", "failed"]
    reason: str | None = None  # of a failure, one line
    log_tail: str | None = None
    last: Scores | None = None
    best: Scores | None = None
    cost: Cost | None = None
    provenance: Provenance | None = None
    train_seconds: float = 0.0
    peak_memory_bytes: int = 0
    files: dict[str, str] = Field(default_factory=dict)  # file name -> SHA-256


class RecordError(ValueError):
    """A record that cannot be used. ``newer`` is true when a later version of this project wrote it."""

    def __init__(self, message: str, *, newer: bool = False) -> None:
        super().__init__(message)
        self.newer = newer


def read_record(path: Path) -> TrialRecord:
    """Read ``trial.json``.

    Raises:
        FileNotFoundError: if there is none.
        RecordError: if it is not JSON, does not fit the schema, or was written by a newer schema.
    """
    try:
        values: Any = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict) or not isinstance(values.get("version"), int):
        raise RecordError(f"{path}: not a trial record (no 'version')")
    if values["version"] > RECORD_VERSION:
        raise RecordError(
            f"{path}: written by schema {values['version']}, this program reads up to {RECORD_VERSION}; "
            "use a newer version of this project or another --results-dir",
            newer=True,
        )
    try:
        return TrialRecord.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from None
