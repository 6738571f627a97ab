"""Verification that a folder is a trial's finished result, before it is used, committed or skipped."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from dnw_core.config import fingerprint
from dnw_core.errors import DnwError, RecordError, UserError
from dnw_core.files import read_json, sha256_of, write_text
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    LOG_FILE,
    RECORD_FILE,
    WIRING_FILE,
    TrialRecord,
    read_record,
)
from pipelines.spec import TrialSpec
from pipelines.store.layout import KNOWN_HASHES_FILE, TRIALS
from pipelines.store.left_out import left_out

REQUIRED_FILES = (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)


class VerificationError(DnwError):
    """The folder is not this trial's result; the message says why, in one line."""


def read_own_record(folder: Path, spec: TrialSpec | TrialRecord) -> TrialRecord:
    """Read a folder's record and check that it is this trial's.

    Raises:
        VerificationError: if there is none, it is damaged, or it is another trial's.
        UserError: if a newer version of this project wrote it.
    """
    path = folder / RECORD_FILE
    try:
        record = read_record(path)
    except RecordError as error:
        if error.newer:
            raise UserError(str(error)) from None
        reason = str(error).removeprefix(f"{path}: ")
        raise VerificationError(f"{RECORD_FILE}: {reason}") from None
    except OSError as error:
        raise VerificationError(f"{RECORD_FILE} cannot be read ({error.strerror})") from None
    for name in ("table", "row", "seed", "fingerprint"):
        found, expected = getattr(record, name), getattr(spec, name)
        if found != expected:
            raise VerificationError(f"{RECORD_FILE}: {name} is {found!r}, not {expected!r}")
    return record


def verify_finished(
    folder: Path, spec: TrialSpec | TrialRecord, sha256: Callable[[Path], str] = sha256_of
) -> TrialRecord:
    """Check record, recipe and the SHA-256 of every file; return the record.

    Args:
        folder: the finished trial's.
        spec: the trial that it should be.
        sha256: how a file is hashed.

    Raises:
        VerificationError: what is wrong with the folder.
        UserError: if a newer version of this project wrote it.
    """
    record = read_own_record(folder, spec)
    if record.status != "done" or record.last is None:
        raise VerificationError(
            f"{RECORD_FILE}: status is {record.status!r}; a finished trial is 'done' and has scores"
        )
    if fingerprint(record.recipe) != record.fingerprint:
        raise VerificationError(f"{RECORD_FILE}: the recipe's fingerprint is {fingerprint(record.recipe)}, not its own")
    _check_scores(record)
    for name in REQUIRED_FILES:
        if name not in record.files:
            raise VerificationError(f"{RECORD_FILE}: lists no {name}")
    lacking = left_out(folder, record)
    for name, expected in record.files.items():
        path = folder / name
        if name in lacking:
            continue
        if path.name != name or path.is_symlink():
            raise VerificationError(f"{name}: not a plain file of the folder")
        try:
            found = sha256(path)
        except OSError as error:
            raise VerificationError(f"{name}: cannot be read ({error.strerror})") from None
        if found != expected:
            raise VerificationError(f"{name}: truncated or altered (SHA-256 {found[:12]}…, recorded {expected[:12]}…)")
    return record


def _check_scores(record: TrialRecord) -> None:
    """Check that the scores are those of all epochs; records older than their digest have nothing else to tell it."""
    assert record.last is not None
    epochs = record.recipe.epochs
    if record.last.epoch != epochs - 1:
        raise VerificationError(f"{RECORD_FILE}: its scores are those of epoch {record.last.epoch} of {epochs}")
    best = record.best
    if best is not None and (best.epoch >= epochs or best.test_accuracy < record.last.test_accuracy):
        raise VerificationError(f"{RECORD_FILE}: its best scores are not its own")


SETTLED_NS = 2_000_000_000
"""A file younger than this when it is hashed is not remembered: a coarse clock may not show its next change."""

_Mark = list[int]  # size, inode, mtime and ctime in ns


class _Remembered(BaseModel):
    """The content of ``known-hashes.json``."""

    version: Literal[1] = 1
    files: dict[str, tuple[_Mark, str]] = {}


class KnownHashes:
    """SHA-256 of files below a results folder.

    Args:
        results_dir: the results folder.
        trust: return the remembered hash of a file that did not change; else every call of ``sha256`` reads the file.
    """

    def __init__(self, results_dir: Path, *, trust: bool) -> None:
        self._results_dir = results_dir
        self._trust = trust
        self._known: dict[str, tuple[_Mark, str]] | None = None
        self._found: dict[str, tuple[_Mark, str]] = {}

    def sha256(self, path: Path) -> str:
        """Return the file's SHA-256 in hexadecimal.

        Raises:
            OSError: if it cannot be read.
        """
        name = path.relative_to(self._results_dir).as_posix()
        before = _mark(path)
        if self._trust:
            mark, digest = self._load().get(name, (None, ""))
            if mark == before:
                return digest
        digest = sha256_of(path)
        settled = time.time_ns() - max(before[2:]) >= SETTLED_NS
        if settled and _mark(path) == before:
            self._found[name] = before, digest
        return digest

    def save(self) -> None:
        """Remember what was hashed since this was made; files that are gone are forgotten. Under the driver's lock."""
        found = dict(self._found)  # other threads may go on hashing
        known = self._load()
        if all(known.get(name) == entry for name, entry in found.items()):
            return
        merged = {name: entry for name, entry in sorted({**known, **found}.items()) if self._is_there(name)}
        self._known = merged
        text = json.dumps({"version": 1, "files": merged})
        with contextlib.suppress(OSError):  # a full disk: the next look hashes
            write_text(self._results_dir / KNOWN_HASHES_FILE, text + "\n")

    def _is_there(self, name: str) -> bool:
        if not name.startswith(f"{TRIALS}/") or ".." in name:
            return False  # not written by us: the file may come from anywhere
        try:
            return (self._results_dir / name).is_file()
        except OSError:  # not the name of a file
            return False

    def _load(self) -> dict[str, tuple[_Mark, str]]:
        if self._known is None:
            try:
                self._known = _Remembered.model_validate(read_json(self._results_dir / KNOWN_HASHES_FILE)).files
            except ValueError:  # missing, damaged or of another version
                self._known = {}
        return self._known


def _mark(path: Path) -> _Mark:
    status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - Path.stat is the same
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
