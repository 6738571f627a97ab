"""Is a folder really this trial's finished result? Asked before anything is believed, committed or skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dnw_core.config import fingerprint
from dnw_core.errors import UserError
from dnw_core.files import sha256_of
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    LOG_FILE,
    RECORD_FILE,
    WIRING_FILE,
    RecordError,
    TrialRecord,
    read_record,
)
from pipelines.spec import TrialSpec

REQUIRED_FILES = (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)


class NotBelievedError(Exception):
    """The folder is not this trial's result; the message says why, in one line."""


def read_own_record(folder: Path, spec: TrialSpec) -> TrialRecord:
    """Read a folder's record and check that it is this trial's.

    Raises:
        NotBelievedError: if there is none, it is damaged, or it is another trial's.
        UserError: if a newer version of this project wrote it.
    """
    path = folder / RECORD_FILE
    try:
        record = read_record(path)
    except RecordError as error:
        if error.newer:
            raise UserError(str(error)) from None
        reason = str(error).removeprefix(f"{path}: ")
        raise NotBelievedError(f"{RECORD_FILE}: {reason}") from None
    except OSError as error:
        raise NotBelievedError(f"{RECORD_FILE} cannot be read ({error.strerror})") from None
    for name in ("table", "row", "seed", "fingerprint"):
        found, expected = getattr(record, name), getattr(spec, name)
        if found != expected:
            raise NotBelievedError(f"{RECORD_FILE}: {name} is {found!r}, not {expected!r}")
    return record


def verify_finished(folder: Path, spec: TrialSpec, sha256: Callable[[Path], str] = sha256_of) -> TrialRecord:
    """Check record, recipe and the SHA-256 of every file; return the record.

    Args:
        folder: the finished trial's.
        spec: the trial that it should be.
        sha256: how a file is hashed.

    Raises:
        NotBelievedError: what is wrong with the folder.
        UserError: if a newer version of this project wrote it.
    """
    record = read_own_record(folder, spec)
    if record.status != "done" or record.last is None:
        raise NotBelievedError(f"{RECORD_FILE}: status is {record.status!r}; a finished trial is 'done' and has scores")
    if fingerprint(record.recipe) != record.fingerprint:
        raise NotBelievedError(f"{RECORD_FILE}: the recipe's fingerprint is {fingerprint(record.recipe)}, not its own")
    _check_scores(record)
    for name in REQUIRED_FILES:
        if name not in record.files:
            raise NotBelievedError(f"{RECORD_FILE}: lists no {name}")
    for name, expected in record.files.items():
        path = folder / name
        if path.name != name or path.is_symlink():
            raise NotBelievedError(f"{name}: not a plain file of the folder")
        try:
            found = sha256(path)
        except OSError as error:
            raise NotBelievedError(f"{name}: cannot be read ({error.strerror})") from None
        if found != expected:
            raise NotBelievedError(f"{name}: truncated or altered (SHA-256 {found[:12]}…, recorded {expected[:12]}…)")
    return record


def _check_scores(record: TrialRecord) -> None:
    """Check that the scores are those of all epochs; records older than their digest have nothing else to tell it."""
    assert record.last is not None
    epochs = record.recipe.epochs
    if record.last.epoch != epochs - 1:
        raise NotBelievedError(f"{RECORD_FILE}: its scores are those of epoch {record.last.epoch} of {epochs}")
    best = record.best
    if best is not None and (best.epoch >= epochs or best.test_accuracy < record.last.test_accuracy):
        raise NotBelievedError(f"{RECORD_FILE}: its best scores are none of its own")
