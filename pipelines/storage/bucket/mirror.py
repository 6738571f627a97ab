"""A copy of the small files of a bucket in a folder of this machine: what plan, report and tracker read.

Records, histories, wirings, logs and progress are copied, each only when it changed. Checkpoints are not. A finished
trial's checkpoint counts as verified if its object's name carries the recorded SHA-256 (compared with what was sent,
at its upload) and its size is the one in its name; it is read and hashed only when a trial starts from it. For an
unfinished trial's checkpoint the copy has an empty file. The copy may be deleted at any time; no trial trains in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import override

from dnw_core.errors import UserError
from dnw_core.files import read_json
from dnw_core.folders import default_cache_dir
from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from pipelines.spec import TrialSpec
from pipelines.storage.bucket.client import Bucket, Stored
from pipelines.storage.bucket.trials import BucketTrials, checkpoints, files_of, finished_prefix, work_prefix
from pipelines.storage.transport import retry
from pipelines.store import TRIALS, WORK_SUFFIX, KnownHashes, Store, check_name, is_plain, refuse_links, work_folder

_MARK = ".mirror.json"  # in a trial's folder: what tells whether it changed, and its checkpoint's SHA-256
_AT_ONCE = 8
_LONGEST_FILE = 64 * 2**20  # of an unfinished trial: a log without end is not copied

_Objects = Mapping[str, Stored]


class Mirror:
    """The copy.

    Args:
        bucket: the results.
        folder: of this machine; its trials are removed where the bucket has none of that name.
    """

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket = bucket
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, str]] = {}

    def checkpoint_sha256(self, folder: Path) -> str | None:
        """Return the SHA-256 in the name of the checkpoint's object, for a trial's folder in the copy."""
        return self._mark_of(folder.relative_to(self.folder).as_posix())[1] or None

    def changed_here(self, folder: Path) -> None:
        """Note that a trial's folder was changed here: the next ``pull`` copies it again."""
        self._known.pop(folder.relative_to(self.folder).as_posix(), None)
        (folder / _MARK).unlink(missing_ok=True)

    def pull(self, only: Sequence[TrialSpec] | None = None) -> None:
        """Bring the copy up to date, wholly or for some trials.

        Raises:
            OSError: if the bucket cannot be read.
        """
        with self._lock:
            if only is None:
                found = _by_trial(self._bucket.list(f"{TRIALS}/"))
                gone = set(self._folders()) - set(found)
            else:
                prefixes = [prefix for spec in only for prefix in (finished_prefix(spec), work_prefix(spec))]
                found = {}
                for prefix in prefixes:
                    found |= _by_trial(self._bucket.list(prefix))
                gone = {name for prefix in prefixes if (name := prefix.rstrip("/")) not in found}
            for name in gone:
                self._forget(name)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda item: self._pull_trial(*item), found.items()))

    def _pull_trial(self, name: str, objects: _Objects) -> None:
        mark = ";".join(f"{key} {stored.size} {stored.changed_ns}" for key, stored in sorted(objects.items()))
        target = self.folder / name
        if self._mark_of(name)[0] == mark and target.is_dir():
            return
        refuse_links(self.folder, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        arriving = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        arriving.mkdir()
        try:
            if name.endswith(WORK_SUFFIX):
                digest = self._pull_work(name, objects, arriving)
            else:
                digest = self._pull_finished(name, objects, arriving)
            (arriving / _MARK).write_text(json.dumps([mark, digest]), "utf-8")
            self._forget(name)
            arriving.rename(target)
            self._known[name] = mark, digest
        except FileNotFoundError:  # finished or replaced at this moment: the next look will see it
            return
        finally:
            shutil.rmtree(arriving, ignore_errors=True)

    def _pull_finished(self, name: str, objects: _Objects, into: Path) -> str:
        """Copy a finished trial but for its checkpoint; return that one's SHA-256."""
        record = self._bucket.get(f"{name}/{RECORD_FILE}")
        files = files_of(record, objects)
        for named in files.values():
            if named.file != CHECKPOINT_FILE:
                self._bucket.download(f"{name}/{named}", into / named.file)
        (into / RECORD_FILE).write_bytes(record)
        return files[CHECKPOINT_FILE].sha256 if CHECKPOINT_FILE in files else ""

    def _pull_work(self, name: str, objects: _Objects, into: Path) -> str:
        for key, stored in objects.items():
            if not key.startswith(CHECKPOINT_FILE) and stored.size <= _LONGEST_FILE:
                (into / key).write_bytes(self._bucket.get(f"{name}/{key}"))
        if checkpoints(objects):
            (into / CHECKPOINT_FILE).touch()
        return ""

    def _mark_of(self, name: str) -> tuple[str, str]:
        if name not in self._known:
            values = read_json(self.folder / name / _MARK)
            known = isinstance(values, list) and len(values) == 2 and all(isinstance(text, str) for text in values)
            self._known[name] = (values[0], values[1]) if known else ("", "")
        return self._known[name]

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        target = self.folder / name
        with contextlib.suppress(FileNotFoundError):
            # under another name first, so that half a trial is never read
            aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            target.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _folders(self) -> list[str]:
        """Return the trials' folders that are here."""
        found = self.folder.glob(f"{TRIALS}/*/*/*/seed-*")
        return [path.relative_to(self.folder).as_posix() for path in found]


def _by_trial(found: _Objects) -> dict[str, dict[str, Stored]]:
    """Return the objects by the trial's folder, without names that do not belong to a trial.

    A folder without a record is not a finished trial: its record is yet to come, or the process was lost before.
    """
    trials: dict[str, dict[str, Stored]] = {}
    for key, stored in found.items():
        folder, _, name = key.rpartition("/")
        if is_plain(name) and _is_trial(folder):
            trials.setdefault(folder, {})[name] = stored
    return {
        folder: objects for folder, objects in trials.items() if folder.endswith(WORK_SUFFIX) or RECORD_FILE in objects
    }


def _is_trial(folder: str) -> bool:
    parts = folder.split("/")
    if len(parts) != 5 or parts[0] != TRIALS or not parts[4].startswith("seed-"):
        return False
    try:
        for part in parts[1:]:
            check_name(part, "folder")
    except UserError:
        return False
    return True


_PATIENCE_SECONDS = 300.0


class MirrorStore(Store):
    """The copy as a store, which verifies checkpoints by their objects (see above).

    Nothing is committed through it: trials commit in the bucket itself.
    """

    _mirror: Mirror
    _trials: BucketTrials

    @classmethod
    def over(
        cls, mirror: Mirror, trials: BucketTrials, *, create: bool = False, trust_unchanged: bool = False
    ) -> MirrorStore:
        """Open the copy; see ``Store.open``."""
        store = cls.open(mirror.folder, create=create, trust_unchanged=trust_unchanged)
        assert isinstance(store, MirrorStore)
        store._mirror, store._trials = mirror, trials
        store._hashes = _MirrorHashes(mirror, trust=trust_unchanged)
        return store

    @override
    def commit(self, spec: TrialSpec) -> bool:
        raise AssertionError("trials commit in the bucket")

    @override
    def record_failure(self, spec: TrialSpec, reason: str, log_tail: str | None = None) -> None:
        super().record_failure(spec, reason, log_tail)
        self._mirror.changed_here(self.work_folder(spec))
        path = self.work_folder(spec) / RECORD_FILE
        self._retry(lambda: self._trials.deliver(spec, RECORD_FILE, path), "recording a failure")

    @override
    def clear_failure(self, spec: TrialSpec) -> None:
        self._retry(lambda: self._trials.clear_failure(spec), "clearing a failure")
        super().clear_failure(spec)
        self._mirror.changed_here(self.work_folder(spec))

    @override
    def set_aside(self, spec: TrialSpec, *, work: bool = False) -> Path | None:
        self._retry(lambda: self._trials.set_aside(spec, work=work), "setting a trial aside")
        for folder in (self.folder(spec), work_folder(self.folder(spec))):
            self._mirror.changed_here(folder)
        return super().set_aside(spec, work=work)

    def _retry(self, act: Callable[[], object], what: str) -> None:
        retry(act, f"{what} in {self._trials}", _PATIENCE_SECONDS)


class _MirrorHashes(KnownHashes):
    """Knows the checkpoints of finished trials, which are not copied, by their objects' names."""

    def __init__(self, mirror: Mirror, *, trust: bool) -> None:
        super().__init__(mirror.folder, trust=trust)
        self._mirror = mirror

    @override
    def sha256(self, path: Path) -> str:
        if path.name == CHECKPOINT_FILE and not path.exists():
            digest = self._mirror.checkpoint_sha256(path.parent)
            if digest is not None:
                return digest
        return super().sha256(path)


def mirror_folder(uri: str) -> Path:
    """Return the folder for the copy of ``uri``: always the same, below the user's cache folder."""
    name = uri.rpartition("/")[2] or "results"
    digest = hashlib.sha256(uri.encode()).hexdigest()[:12]
    return default_cache_dir() / "results" / f"{name}-{digest}"
