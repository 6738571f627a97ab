"""What a trial leaves behind: the record in ``trial.json`` and the columns of ``history.parquet``.

Free of torch: the planner and the report read it. Accuracies are fractions, times are seconds, memory is
bytes. ``RECORD_VERSION`` rises when an old reader could misread a new record, or could not say why it refuses it.

A record holds the hashes of the trial's other files and, since version 4, a digest of itself: a figure that was changed
on the disk is found, not reported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from dnw_core.config import Config, Recipe
from dnw_core.errors import RecordError
from dnw_core.files import read_text

RECORD_VERSION = 4  # 3: scores have a top-5 accuracy, and wiring.npz may hold bits; 4: a digest of the record itself

RECORD_FILE = "trial.json"
HISTORY_FILE = "history.parquet"
WIRING_FILE = "wiring.npz"
CHECKPOINT_FILE = "checkpoint.pt"
PREVIOUS_FILE = "checkpoint.previous.pt"  # the checkpoint before it, while a new one takes its place
LOG_FILE = "log.txt"
PROGRESS_FILE = "progress.json"
DIGEST = "digest"  # the name in trial.json

Fraction = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Loss = Annotated[float, Field(allow_inf_nan=False)]  # of a network that has diverged nothing is a score


class EpochMetrics(Config):
    """One epoch, as reported while the trial runs and as a line of the history."""

    epoch: Whole  # counted from 0
    learning_rate: Amount  # of the epoch's last step
    train_loss: Loss
    train_accuracy: Fraction
    test_loss: Loss
    test_accuracy: Fraction
    edges: Whole  # kept edges of all graphs, at the epoch's end
    edges_swapped: Whole  # edges kept now that were not kept at the epoch's start
    live_edges: Whole
    live_nodes: Whole
    seconds: Amount
    test_top5_accuracy: Fraction | None = None  # None for five classes or fewer, and absent from older files


HISTORY_COLUMNS = {
    name: "int64" if field.annotation is int else "float64" for name, field in EpochMetrics.model_fields.items()
}
"""The columns of ``history.parquet`` in their order; one line an epoch."""


class Scores(Config):
    """Test scores at one epoch."""

    epoch: Whole
    test_accuracy: Fraction
    test_loss: Loss
    train_loss: Loss
    test_top5_accuracy: Fraction | None = None  # five classes or fewer, or an older record: None


class Cost(Config):
    """What the network needs, by the papers' rules (facts 2.3); ``dense`` as if every slot were an edge."""

    parameters: Whole  # nominal: kept edges + everything else that is trained (without the norms' affine ones)
    parameters_with_norm: Whole
    parameters_allocated: Whole  # all numbers in memory, hallucinated edges included
    live_parameters: Whole  # live edges + parameters of live nodes
    edges: Whole
    live_edges: Whole
    nodes: Whole
    live_nodes: Whole
    macs: Whole  # nominal: all kept edges, all nodes with an outgoing edge
    live_macs: Whole
    dense_macs: Whole
    applications: Amount = 1.0  # times the graph is applied to an image (continuous: measured mean of the last epoch)


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
    train_seconds: Amount = 0.0
    peak_memory_bytes: Whole = 0
    files: dict[str, str] = Field(default_factory=dict)  # file name -> SHA-256


def record_text(record: TrialRecord) -> str:
    """Return the content of ``trial.json``: the record, and the digest that tells whether it was altered since."""
    return json.dumps(sealed(json.loads(record.model_dump_json())), indent=2, ensure_ascii=False) + "\n"


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's values with the digest that fits them."""
    return {**values, DIGEST: digest_of(values)}


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record's values, the digest itself left out."""
    own = {name: value for name, value in values.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(own, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_record(path: Path) -> TrialRecord:
    """Read ``trial.json`` and check every field.

    Raises:
        OSError: as ``read_values``.
        RecordError: as ``read_values``, or if it does not fit the schema.
    """
    values = read_values(path)
    try:
        return TrialRecord.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from None


def read_values(path: Path) -> dict[str, Any]:
    """Return the fields of ``trial.json`` without its digest, which is checked. No other field is checked.

    Raises:
        OSError: if there is none, or it cannot be read.
        RecordError: if it is not a JSON object, was altered, or was written by a newer schema.
    """
    try:
        values: Any = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and numbers beyond all measure
        raise RecordError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise RecordError(f"{path}: not a JSON object")
    if type(values.get("version")) is not int:
        raise RecordError(f"{path}: not a trial record (no 'version')")
    if values["version"] > RECORD_VERSION:
        raise RecordError(
            f"{path}: written by schema {values['version']}, this program reads up to {RECORD_VERSION}; "
            "use a newer version of this project or another --results-dir",
            newer=True,
        )
    if DIGEST in values and values.pop(DIGEST) != digest_of(values):
        raise RecordError(f"{path}: altered (its content does not fit its own digest)")
    return values
