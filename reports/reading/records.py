"""Reading one trial's folder, whatever is in it. Nothing here raises for what lies on disk.

The report reads ``trial.json`` itself (schema: ``dnw_core/record.py``) so that it stays free of the science's
imports. It checks what it uses: identity, status, the record's own digest, the scores it prints, and the SHA-256 of
the files it draws.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from reports.reading.files import read_bytes, sha256_of
from reports.text import encodable

RECORD_VERSION = 4
RECORD_FILE = "trial.json"
HISTORY_FILE = "history.parquet"
WIRING_FILE = "wiring.npz"
PROGRESS_FILE = "progress.json"
DIGEST = "digest"
_DRAWN_FILES = (HISTORY_FILE, WIRING_FILE)

COSTS = (
    "parameters",
    "parameters_with_norm",
    "parameters_allocated",
    "live_parameters",
    "edges",
    "live_edges",
    "nodes",
    "live_nodes",
    "macs",
    "live_macs",
    "dense_macs",
)
PROVENANCE_TEXTS = (
    "commit",
    "python",
    "hostname",
    "processor",
    "accelerator",
    "device",
    "data_checksum",
    "started_at",
    "finished_at",
)
_LARGEST_COUNT = 2**63 - 1  # an int64 column
_LARGEST_FILE = 64 << 20  # bytes of a JSON file


class UnreadableError(Exception):
    """The folder holds something that is not this trial's result; the message says what."""


def read_trial(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return one line of the trials frame for a seed's folder (``seed-3`` or ``seed-3.work``).

    Args:
        folder: the seed's folder.
        identity: ``table``, ``row``, ``fingerprint`` and ``seed`` that the record must carry.
    """
    try:
        if folder.is_symlink():
            raise UnreadableError("a symbolic link, which may lead elsewhere")
        if not folder.name.endswith(".work"):
            return _finished(folder, identity)
        return _unfinished(folder, identity)
    except (UnreadableError, OSError) as error:
        reason = str(error) if isinstance(error, UnreadableError) else f"cannot be read ({error.strerror or error})"
        reason = encodable(reason)
        return {"status": "unreadable", "reason": reason}


def _finished(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    record = _read_record(folder / RECORD_FILE, identity)
    if record.get("status") != "done":
        raise UnreadableError(
            f"{RECORD_FILE}: status is {record.get('status')!r} in a finished folder; it must be 'done'"
        )
    values = _values(record)
    if values["accuracy"] is None:
        raise UnreadableError(f"{RECORD_FILE}: a finished trial without 'last' scores")
    if values["test_loss"] is None:
        raise UnreadableError(f"{RECORD_FILE}: last.test_loss is not finite: the network diverged, and has no score")
    _check_seconds(values)
    _check_files(folder, record.get("files"))
    return values | {"status": "done"}


def _unfinished(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    if (folder / RECORD_FILE).is_file() and not (folder / RECORD_FILE).is_symlink():
        record = _read_record(folder / RECORD_FILE, identity)
        if record.get("status") == "failed":
            reason = _text(record.get("reason")) or "no reason recorded"
            return _values(record) | {"status": "failed", "reason": reason}
    return _progress(folder / PROGRESS_FILE) | {"status": "running"}


def _read_record(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    record = _read_json(path)
    version = record.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise UnreadableError(f"{path.name}: not a trial record (no 'version')")
    if version > RECORD_VERSION:
        raise UnreadableError(f"{path.name}: written by schema {version}; this program reads up to {RECORD_VERSION}")
    if DIGEST in record and record[DIGEST] != _digest_of(record):
        raise UnreadableError(f"{path.name}: altered (its content does not fit its own digest)")
    for name, expected in identity.items():
        if record.get(name) != expected:
            raise UnreadableError(f"{path.name}: {name} is {record.get(name)!r}, the folder says {expected!r}")
    return record


def _digest_of(record: dict[str, Any]) -> str:
    own = {name: value for name, value in record.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(own, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_bytes(path, _LARGEST_FILE).decode("utf-8"))
    except FileNotFoundError:
        raise UnreadableError(f"{path.name}: not there") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UnreadableError(f"{path.name}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise UnreadableError(f"{path.name}: not a JSON object")
    return values


def _values(record: dict[str, Any]) -> dict[str, Any]:
    last, best = _object(record, "last"), _object(record, "best")
    cost, provenance = _object(record, "cost"), _object(record, "provenance")
    recipe = _object(record, "recipe")
    packages = provenance.get("packages")
    return {
        "scale": _text(record.get("scale")),
        "log_tail": _text(record.get("log_tail")),
        "epochs": _whole(recipe, "epochs"),
        "epochs_done": None if _whole(last, "epoch") is None else (_whole(last, "epoch") or 0) + 1,
        "accuracy": _percent(last, "last"),
        "test_loss": _real(last, "test_loss"),
        "train_loss": _real(last, "train_loss"),
        "top5_accuracy": _top5(last),
        "best_accuracy": _percent(best, "best"),
        "best_epoch": _whole(best, "epoch"),
        **{name: _whole(cost, name) for name in COSTS},
        "applications": _real(cost, "applications"),
        "network_kind": _inner_text(recipe, "network", "kind"),
        "wiring_rule": _inner_text(recipe, "wiring", "rule"),
        "seconds": _real(record, "train_seconds"),
        "peak_memory_bytes": _whole(record, "peak_memory_bytes"),
        **{name: _text(provenance.get(name)) for name in PROVENANCE_TEXTS},
        "dirty": provenance.get("dirty") if isinstance(provenance.get("dirty"), bool) else None,
        "threads": _whole(provenance, "threads"),
        "resumed": _whole(provenance, "resumed"),
        "packages": json.dumps(packages, sort_keys=True) if isinstance(packages, dict) else None,
    }


def _progress(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"epochs_done": 0}
    try:
        progress = _read_json(path)
        metrics = _object(progress, "metrics")
        return {
            "epochs_done": _whole(progress, "epoch"),
            "epochs": _whole(progress, "epochs"),
            "accuracy": _percent(metrics, "metrics"),
            "seconds": _real(progress, "seconds"),
            "hostname": _text(progress.get("host")),
        }
    except (UnreadableError, OSError) as error:  # a broken progress note does not make the trial any less unfinished
        return {"reason": str(error)}


def _check_seconds(values: dict[str, Any]) -> None:
    if values["seconds"] is not None and values["seconds"] < 0:
        raise UnreadableError(f"{RECORD_FILE}: train_seconds is {values['seconds']:g}; it must be a number from 0 on")


def _check_files(folder: Path, files: Any) -> None:
    listed = files if isinstance(files, dict) else {}
    for name in _DRAWN_FILES:
        if name not in listed:
            continue
        path = folder / name
        if not path.is_file():
            raise UnreadableError(f"{name}: not there, though {RECORD_FILE} lists it")
        if sha256_of(path) != listed[name]:
            raise UnreadableError(f"{name}: altered or truncated (its SHA-256 is not the one in {RECORD_FILE})")


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    inner = values.get(name)
    if inner is None:
        return {}
    if not isinstance(inner, dict):
        raise UnreadableError(f"{name}: not a JSON object")
    return inner


def _text(value: Any) -> str | None:
    return None if value is None else encodable(value)


def _inner_text(values: dict[str, Any], name: str, field: str) -> str | None:
    """Return ``values[name][field]`` if it is text: it only groups rows, so anything else is no reason to refuse."""
    inner = values.get(name)
    text = inner.get(field) if isinstance(inner, dict) else None
    return encodable(text) if isinstance(text, str) else None


def _whole(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_COUNT:
        raise UnreadableError(f"{name} is {str(value)[:40]!r}; it must be a whole number from 0 on")
    return value


def _real(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UnreadableError(f"{name} is {str(value)[:40]!r}; it must be a number")
    try:
        real = float(value)
    except OverflowError:
        return None
    return real if math.isfinite(real) else None


def _percent(scores: dict[str, Any], where: str) -> float | None:
    if not scores:
        return None
    fraction = _real(scores, "test_accuracy")
    if fraction is None or not 0 <= fraction <= 1:
        raise UnreadableError(f"{where}.test_accuracy is {str(scores.get('test_accuracy'))[:40]}; it must lie in 0..1")
    return 100 * fraction


def _top5(scores: dict[str, Any]) -> float | None:
    """Return the top-5 accuracy; None in records older than it, and where the data set has too few classes."""
    fraction = _real(scores, "test_top5_accuracy")
    if fraction is None:
        return None
    if not 0 <= fraction <= 1:
        raise UnreadableError(f"last.test_top5_accuracy is {fraction:g}; it must lie in 0..1")
    return 100 * fraction
