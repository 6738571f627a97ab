"""Trials in a bucket: fetched, delivered, committed by one PUT, set aside.

The PUT of ``trial.json``, after every file that it lists, makes a trial finished. It is made on condition that there is
none yet, so of several that commit the first one's result stays. Only a damaged result is replaced: each record lists
files whose names tell size and SHA-256, so one whole result is there, never a mixture.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from pipelines.spec import TrialSpec
from pipelines.storage.bucket.client import Bucket, Stored
from pipelines.storage.transport import Transport
from pipelines.store import (
    SET_ASIDE,
    TRIALS,
    WORK_SUFFIX,
    VerificationError,
    is_plain,
    read_own_record,
    verify_finished,
)

_KEPT_CHECKPOINTS = 2  # the newest, and the one before it


class BucketTrials(Transport):
    """Trials in a bucket, reached from anywhere.

    Args:
        bucket: the results.
        run: this run's folder in it (``drivers/run-…/``), with its slash; where the request to stop appears.
    """

    def __init__(self, bucket: Bucket, run: str) -> None:
        self.bucket = bucket
        self.run = run

    def __str__(self) -> str:
        return str(self.bucket)

    @override
    def fetch(self, spec: TrialSpec, into: Path, *, work: bool) -> None:
        prefix = work_prefix(spec) if work else finished_prefix(spec)
        found = self._listed(prefix)
        if work:
            self._fetch_work(prefix, found, into)
        elif RECORD_FILE in found:
            self._fetch_finished(prefix, found, into)

    @override
    def deliver(self, spec: TrialSpec, name: str, path: Path) -> None:
        prefix = work_prefix(spec)
        if name != CHECKPOINT_FILE:
            self.bucket.put(prefix + name, path.read_bytes())
            return
        before = checkpoints(self._listed(prefix))
        self._upload(prefix, path, {str(named) for named in before})
        for named in before[_KEPT_CHECKPOINTS - 1 :]:
            self.bucket.delete(f"{prefix}{named}")

    @override
    def commit(self, spec: TrialSpec, folder: Path) -> bool:
        record = read_own_record(folder, spec)
        prefix = finished_prefix(spec)
        if self._is_finished(spec):
            return False
        there = self._listed(prefix)
        whole = {name for name in there if (named := parse_name(name)) is not None and named.size == there[name].size}
        for name in record.files:
            self._upload(prefix, folder / name, whole)
        content = (folder / RECORD_FILE).read_bytes()
        if self.bucket.put_if(prefix + RECORD_FILE, content, None) is None:  # a damaged one, or just committed
            if self._is_finished(spec):
                return False
            self.bucket.put(prefix + RECORD_FILE, content)
        with contextlib.suppress(OSError):  # what is left there means nothing any more
            for name in self._listed(work_prefix(spec)):
                self.bucket.delete(work_prefix(spec) + name)
        return True

    def set_aside(self, spec: TrialSpec, *, work: bool) -> bool:
        """Move a trial's objects to ``set-aside/``; False if there are none. The record goes first."""
        prefix = work_prefix(spec) if work else finished_prefix(spec)
        names = sorted(self._listed(prefix), key=lambda name: (name != RECORD_FILE, name))
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        target = aside_prefix(spec, f"{prefix.rstrip('/').rpartition('/')[2]}-{now}-{uuid.uuid4().hex[:4]}")
        for name in names:
            self.bucket.copy(prefix + name, target + name)
        for name in names:
            self.bucket.delete(prefix + name)
        return bool(names)

    def clear_failure(self, spec: TrialSpec) -> None:
        """Forget a failure."""
        self.bucket.delete(work_prefix(spec) + RECORD_FILE)

    @override
    def stop_wanted(self) -> bool:
        return self.bucket.info(f"{self.run}stop") is not None

    def ask_to_stop(self) -> None:
        """Ask all trials of this run to stop."""
        self.bucket.put(f"{self.run}stop", b"stop\n")

    @override
    def write_marker(self, name: str, text: str) -> None:
        self.bucket.put(f"{self.run}word-{name}", text.encode())

    @override
    def read_marker(self, name: str) -> str:
        return self.bucket.get(f"{self.run}word-{name}").decode("utf-8", "replace")

    def _listed(self, prefix: str) -> dict[str, Stored]:
        found = self.bucket.list(prefix)
        return {name: stored for key, stored in found.items() if is_plain(name := key.removeprefix(prefix))}

    def _is_finished(self, spec: TrialSpec) -> bool:
        """Whether the bucket holds the finished trial, every byte of it verified."""
        if self.bucket.info(finished_prefix(spec) + RECORD_FILE) is None:
            return False
        with tempfile.TemporaryDirectory(prefix="dnw-look-") as folder:
            self.fetch(spec, Path(folder), work=False)
            try:
                verify_finished(Path(folder), spec)
            except VerificationError:
                return False
        return True

    def _upload(self, prefix: str, path: Path, there: set[str]) -> None:
        named = name_of(path)
        if str(named) in there:
            return
        key = f"{prefix}{named}"
        sent = self.bucket.upload(key, path)
        stored = self.bucket.info(key)
        if sent != named.sha256 or stored is None or stored.size != named.size:
            self.bucket.delete(key)
            raise OSError(f"{path.name} changed while it was sent to {self}")

    def _fetch_finished(self, prefix: str, found: Mapping[str, Stored], into: Path) -> None:
        record = self.bucket.get(prefix + RECORD_FILE)
        into.mkdir(parents=True, exist_ok=True)
        for named in files_of(record, found).values():
            self.bucket.download(f"{prefix}{named}", into / named.file)
        (into / RECORD_FILE).write_bytes(record)

    def _fetch_work(self, prefix: str, found: Mapping[str, Stored], into: Path) -> None:
        for name in found:
            if parse_name(name) is None:
                into.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    (into / name).write_bytes(self.bucket.get(prefix + name))
        for named in checkpoints(found):
            into.mkdir(parents=True, exist_ok=True)
            arriving = into / f".{CHECKPOINT_FILE}.tmp"
            with contextlib.suppress(FileNotFoundError):  # replaced by a newer one just now, by a process that is lost
                if self.bucket.download(f"{prefix}{named}", arriving) == named.sha256:
                    arriving.replace(into / CHECKPOINT_FILE)
                    return
            arriving.unlink(missing_ok=True)


def checkpoints(found: Mapping[str, Stored]) -> list[Named]:
    """Return the whole checkpoints of a listing, the newest first (by the server's clock)."""
    newest = sorted(found, key=lambda name: (-found[name].changed_ns, name))
    named = [(parse_name(name), found[name].size) for name in newest]
    return [one for one, size in named if one is not None and one.file == CHECKPOINT_FILE and one.size == size]


def files_of(record: bytes, found: Mapping[str, Stored]) -> dict[str, Named]:
    """Return the objects of the files that a record lists, by file; those that are not there whole are left out."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(record)
        listed = values.get("files") if isinstance(values, dict) else None
        if isinstance(listed, dict):
            whole = [named for name in found if (named := parse_name(name)) and named.size == found[name].size]
            return {named.file: named for named in whole if listed.get(named.file) == named.sha256}
    return {}


def run_folder() -> str:
    """Return a name for a run's own folder in the bucket."""
    return f"drivers/run-{int(time.time())}-{uuid.uuid4().hex[:8]}/"


_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,80})\.(\d{1,15})\.([0-9a-f]{64})")


class Named(NamedTuple):
    """What an object's name tells."""

    file: str
    size: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.file}.{self.size}.{self.sha256}"


def finished_prefix(spec: TrialSpec) -> str:
    """Return the folder of a finished trial, with its slash."""
    return f"{TRIALS}/{spec.trial_id}/"


def work_prefix(spec: TrialSpec) -> str:
    """Return the folder of a trial that is not finished, with its slash."""
    return f"{TRIALS}/{spec.trial_id}{WORK_SUFFIX}/"


def aside_prefix(spec: TrialSpec, name: str) -> str:
    """Return the folder into which a trial is set aside, with its slash."""
    return f"{SET_ASIDE}/{spec.table}/{spec.row}/{spec.fingerprint}/{name}/"


def name_of(path: Path) -> Named:
    """Return the name for a file as it is now (read once, from the file that is open, whatever replaces it)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Named(path.name, file.tell(), digest)


def parse_name(text: str) -> Named | None:
    """Return what a name tells, None if it is not one of these."""
    match = _NAMED.fullmatch(text)
    return Named(match[1], int(match[2]), match[3]) if match else None
