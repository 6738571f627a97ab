"""Reading one trial's folder, whatever is in it. Nothing here raises for what is on disk.

The schema is ``dnw_core.record``'s. The report reads it leniently: a field that an older record lacks, or a setting
that this version does not know, leaves a gap instead of hiding the trial. What the report uses is checked: identity,
status, the record's digest, the numbers it prints, and the SHA-256 of the files it draws.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dnw_core.errors import RecordError
from dnw_core.files import read_json, refuse_link, sha256_of
from dnw_core.record import HISTORY_FILE, PROGRESS_FILE, RECORD_FILE, WIRING_FILE, Cost, Provenance, read_values
from reports.text import encodable

COSTS = tuple(name for name in Cost.model_fields if name != "applications")
PROVENANCE_TEXTS = tuple(name for name, field in Provenance.model_fields.items() if field.annotation is str)
_DRAWN_FILES = (HISTORY_FILE, WIRING_FILE)
_LARGEST_COUNT = 2**63 - 1  # an int64 column


def read_trial(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return one line of the trials frame for a seed's folder (``seed-3`` or ``seed-3.work``).

    Args:
        folder: the seed's folder.
        identity: ``table``, ``row``, ``fingerprint`` and ``seed`` that the record must carry.
    """
    try:
        if folder.is_symlink():
            raise RecordError("a symbolic link, which may lead elsewhere")
        if not folder.name.endswith(".work"):
            return _finished(folder, identity)
        return _unfinished(folder, identity)
    except (RecordError, OSError) as error:
        reason = str(error) if isinstance(error, RecordError) else f"cannot be read ({error.strerror or error})"
        return {"status": "unreadable", "reason": encodable(reason)}


def _finished(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    record = _read_record(folder / RECORD_FILE, identity)
    if record.get("status") != "done":
        raise RecordError(f"{RECORD_FILE}: status is {record.get('status')!r} in a finished folder; it must be 'done'")
    values = _values(record)
    if values["accuracy"] is None:
        raise RecordError(f"{RECORD_FILE}: a finished trial without 'last' scores")
    if values["test_loss"] is None:
        raise RecordError(f"{RECORD_FILE}: last.test_loss is not finite: the network diverged, and has no score")
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
    refuse_link(path)
    try:
        record = read_values(path)
    except FileNotFoundError:
        raise RecordError(f"{path.name}: not there") from None
    except RecordError as error:
        raise RecordError(f"{path.name}: {str(error).removeprefix(f'{path}: ')}") from None
    for name, expected in identity.items():
        if record.get(name) != expected:
            raise RecordError(f"{path.name}: {name} is {record.get(name)!r}, the folder says {expected!r}")
    return record


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
        refuse_link(path)
        if not isinstance(progress := read_json(path), dict):
            raise RecordError(f"{path.name}: not a JSON object")
        metrics = _object(progress, "metrics")
        return {
            "epochs_done": _whole(progress, "epoch"),
            "epochs": _whole(progress, "epochs"),
            "accuracy": _percent(metrics, "metrics"),
            "seconds": _real(progress, "seconds"),
            "hostname": _text(progress.get("host")),
        }
    except (RecordError, OSError) as error:  # the trial is unfinished all the same
        return {"reason": str(error)}


def _check_seconds(values: dict[str, Any]) -> None:
    if values["seconds"] is not None and values["seconds"] < 0:
        raise RecordError(f"{RECORD_FILE}: train_seconds is {values['seconds']:g}; it must be a number of at least 0")


def _check_files(folder: Path, files: Any) -> None:
    listed = files if isinstance(files, dict) else {}
    for name in _DRAWN_FILES:
        if name not in listed:
            continue
        path = folder / name
        if not path.is_file():
            raise RecordError(f"{name}: not there, though {RECORD_FILE} lists it")
        refuse_link(path)
        if sha256_of(path) != listed[name]:
            raise RecordError(f"{name}: altered or truncated (its SHA-256 is not the one in {RECORD_FILE})")


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    inner = values.get(name)
    if inner is None:
        return {}
    if not isinstance(inner, dict):
        raise RecordError(f"{name}: not a JSON object")
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
        raise RecordError(f"{name} is {str(value)[:40]!r}; it must be a whole number of at least 0")
    return value


def _real(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RecordError(f"{name} is {str(value)[:40]!r}; it must be a number")
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
        raise RecordError(
            f"{where}.test_accuracy is {str(scores.get('test_accuracy'))[:40]}; it must be between 0 and 1"
        )
    return 100 * fraction


def _top5(scores: dict[str, Any]) -> float | None:
    """Return the top-5 accuracy; None in records older than it, and where the data set has too few classes."""
    fraction = _real(scores, "test_top5_accuracy")
    if fraction is None:
        return None
    if not 0 <= fraction <= 1:
        raise RecordError(f"last.test_top5_accuracy is {fraction:g}; it must be between 0 and 1")
    return 100 * fraction
