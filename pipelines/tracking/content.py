"""The content of each run in the tracker, read from the store. Of MLflow it needs only the limits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dnw_core.config import flatten
from dnw_core.record import HISTORY_FILE, LOG_FILE, RECORD_FILE, WIRING_FILE, TrialRecord, read_record

CONTENT_VERSION = "1"
"""Rises when runs have to be written again although their trials did not change."""

LONGEST_TAG = 5000
LONGEST_PARAM = 6000
_CUT = " … (cut)"

_EPOCH_METRICS = {  # the history's columns, as metrics: name, factor
    "test_accuracy": ("test_accuracy_percent", 100.0),
    "test_top5_accuracy": ("test_top5_accuracy_percent", 100.0),
    "train_accuracy": ("train_accuracy_percent", 100.0),
    "test_loss": ("test_loss", 1.0),
    "train_loss": ("train_loss", 1.0),
    "learning_rate": ("learning_rate", 1.0),
    "edges": ("edges", 1.0),
    "edges_swapped": ("edges_swapped", 1.0),
    "live_edges": ("live_edges", 1.0),
    "live_nodes": ("live_nodes", 1.0),
    "seconds": ("epoch_seconds", 1.0),
}
# columns of the summary, as metrics of a row
_ROW_METRICS = {
    "mean": "test_accuracy_percent_mean",
    "std": "test_accuracy_percent_std",
    "n": "seeds_done",
    "planned": "seeds_planned",
    "best_mean": "best_test_accuracy_percent_mean",
    "top5_mean": "test_top5_accuracy_percent_mean",
    "published_mean": "published_accuracy_percent_mean",
    "published_top5": "published_top5_accuracy_percent",
    "published_std": "published_accuracy_percent_std",
    "difference": "difference_percentage_points",
    "live_parameters": "live_parameters",
    "live_macs": "live_macs",
    "seconds": "train_seconds_mean",
}


@dataclass(frozen=True)
class Point:
    """One value of a metric. ``time`` is in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int = 0


@dataclass(frozen=True)
class Content:
    """The content of a run. ``identity`` finds the run again, ``digest`` shows whether it is up to date."""

    identity: str
    name: str
    digest: str
    status: str  # FINISHED, FAILED or RUNNING
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    metrics: tuple[Point, ...] = ()
    folder: Path | None = None  # whose files are the artifacts
    started: int | None = None  # milliseconds since 1970
    finished: int | None = None


def row_identity(table: str, row: str, fingerprint: str) -> str:
    """Return the row's name in the store, ``table/row/fingerprint``."""
    return f"{table}/{row}/{fingerprint}"


def trial_digest(folder: Path) -> str:
    """Return the digest of a trial's content from its record alone, which holds its files' hashes.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    return content_digest(CONTENT_VERSION, (folder / RECORD_FILE).read_text("utf-8"))


def trial_content(folder: Path) -> Content:
    """Return the run of one trial, done or failed.

    Raises:
        OSError, ValueError, RecordError: if its files cannot be read.
    """
    path = folder / RECORD_FILE
    record = read_record(path)
    identity = f"{row_identity(record.table, record.row, record.fingerprint)}/seed-{record.seed}"
    provenance = record.provenance
    started = milliseconds(provenance.started_at) if provenance else int(1000 * path.stat().st_mtime)
    return Content(
        identity=identity,
        name=f"{record.row} seed {record.seed}",
        digest=trial_digest(folder),
        status="FINISHED" if record.status == "done" else "FAILED",
        tags=shorten(_trial_tags(record), LONGEST_TAG),
        params=shorten(_params(record), LONGEST_PARAM),
        metrics=(*_epochs(folder / HISTORY_FILE, started), *_results(record, started)),
        folder=folder,
        started=started,
        finished=milliseconds(provenance.finished_at) if provenance else started,
    )


def row_content(row: Mapping[str, Any], summary: Mapping[str, Any], now: int) -> Content:
    """Return the run of one row: its statistics over seeds.

    Args:
        row: the row as the planner passes it to the report.
        summary: the row's line of ``reports.summarise``.
        now: milliseconds since 1970, for the metrics; no part of the digest.
    """
    values = {name: _number(summary.get(column)) for column, name in _ROW_METRICS.items()}
    kept = {name: value for name, value in values.items() if value is not None}
    tags = {
        "table": row["table"],
        "table_title": row.get("table_title"),
        "row": row["row"],
        "label": row.get("label"),
        "fingerprint": row["fingerprint"],
        "scale": summary["scale"],
        "published": _published(summary),
        "published_recipe": summary.get("published_recipe"),
        "verdict": summary["verdict"],
        "reason": summary.get("reason"),
        "extra": str(bool(row.get("extra"))).lower(),
        "variant": str(bool(row.get("variant"))).lower(),
        "command": row.get("command"),
        "mlflow.note.content": "\n\n".join(row.get("notes") or ()) or None,
    }
    kept_tags = shorten({key: str(value) for key, value in tags.items() if _given(value)}, LONGEST_TAG)
    complete = summary["done"] == summary["planned"]
    return Content(
        identity=row_identity(row["table"], row["row"], row["fingerprint"]),
        name=f"{row['row']} ({summary['scale']})",
        digest=content_digest(CONTENT_VERSION, json.dumps([kept, kept_tags], sort_keys=True)),
        status="FINISHED" if complete else "FAILED" if summary["failed"] else "RUNNING",
        tags=kept_tags,
        metrics=tuple(Point(name, value, now) for name, value in kept.items()),
    )


def milliseconds(text: str) -> int:
    """Return an ISO 8601 time as milliseconds since 1970."""
    return int(1000 * datetime.fromisoformat(text).timestamp())


def artifacts(content: Content, scratch: Path) -> Iterator[Path]:
    """Yield a run's artifacts; a picture of the wiring is drawn into ``scratch``."""
    if content.folder is None:
        return
    for name in (RECORD_FILE, LOG_FILE):
        if (content.folder / name).is_file():
            yield content.folder / name
    if (content.folder / WIRING_FILE).is_file():
        from reports import wiring_picture

        picture = scratch / "wiring.png"
        wiring_picture(content.folder / WIRING_FILE, picture)
        yield picture


def _trial_tags(record: TrialRecord) -> dict[str, str]:
    tags: dict[str, Any] = {
        "trial_id": f"{row_identity(record.table, record.row, record.fingerprint)}/seed-{record.seed}",
        "table": record.table,
        "row": record.row,
        "seed": record.seed,
        "fingerprint": record.fingerprint,
        "scale": record.scale,
        "reason": record.reason,
    }
    if record.provenance is not None:
        provenance = record.provenance.model_dump(mode="json")
        tags |= {f"package.{name}": version for name, version in provenance.pop("packages").items()}
        tags |= provenance
        tags["mlflow.source.git.commit"] = provenance["commit"]
    return {key: str(value) for key, value in tags.items() if _given(value) and str(value)}


def _params(record: TrialRecord) -> dict[str, str]:
    flat = {"seed": record.seed, **flatten(record.recipe)}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items()}


def _epochs(path: Path, started: int) -> Iterator[Point]:
    """Yield every epoch's metrics; the time of each is the trial's start and the seconds spent so far."""
    if not path.is_file():
        return
    import pyarrow.parquet as pq

    spent = 0.0
    # partitioning=None: folder names such as row@key=value are not columns
    for epoch in pq.read_table(path, partitioning=None).to_pylist():
        spent += epoch["seconds"] or 0.0
        for column, (name, factor) in _EPOCH_METRICS.items():
            value = epoch.get(column)  # a history may be older than the column
            if value is not None and math.isfinite(value):  # MLflow gives infinity back as 1.8e308
                yield Point(name, factor * value, started + int(1000 * spent), int(epoch["epoch"]))


def _results(record: TrialRecord, time: int) -> Iterator[Point]:
    values: dict[str, float] = {"train_seconds": record.train_seconds}
    if record.peak_memory_bytes:
        values["peak_memory_mebibytes"] = record.peak_memory_bytes / 2**20
    if record.best is not None:
        values["best_test_accuracy_percent"] = 100 * record.best.test_accuracy
        values["best_epoch"] = record.best.epoch
    if record.cost is not None:
        cost = record.cost.model_dump()
        for name in ("parameters", "live_parameters", "macs", "live_macs", "dense_macs", "applications"):
            values[name] = cost[name]
    for name, value in values.items():
        yield Point(name, float(value), time)


def _published(summary: Mapping[str, Any]) -> str | None:
    mean, std = _number(summary.get("published_mean")), _number(summary.get("published_std"))
    if mean is None:
        return None
    return f"{mean:g}" if std is None else f"{mean:g} ± {std:g}"


def _given(value: Any) -> bool:
    import pandas as pd

    return value is not None and value is not pd.NA and not (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    return float(value) if _given(value) else None


def shorten(texts: Mapping[str, str], limit: int) -> dict[str, str]:
    """Cut what MLflow would cut silently, and mark the cut in the text."""
    return {key: text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT for key, text in texts.items()}


def content_digest(*parts: str) -> str:
    """Return a digest of a run's content."""
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]
