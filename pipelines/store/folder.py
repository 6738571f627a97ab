"""The results folder: the one truth about what was trained (layout: docs/architecture.md).

A trial is trained in ``seed-N.work`` and becomes ``seed-N`` by one rename: it is there wholly or not at all, and
the first writer wins. A finished folder counts only while every file matches its recorded SHA-256. Nothing that was
trained is ever deleted: what is damaged or replaced moves to ``set-aside/``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.errors import DnwError, RecordError, UserError
from dnw_core.files import move_odd_files, read_json, sync, write_text
from dnw_core.record import (
    CHECKPOINT_FILE,
    PREVIOUS_FILE,
    PROGRESS_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    TrialRecord,
    read_record,
    record_text,
)
from pipelines.spec import TrialSpec
from pipelines.store import layout
from pipelines.store.layout import STORE_SCHEMA, check_schema, make_writable
from pipelines.store.left_out import left_out
from pipelines.store.verify import KnownHashes, VerificationError, read_own_record, verify_finished

_CHECKPOINTS = (CHECKPOINT_FILE, PREVIOUS_FILE)  # the second one while the first is being replaced


class CommitRefusedError(DnwError):
    """A working folder does not hold a finished trial (a programmer's error, or a broken disk)."""


@dataclass(frozen=True)
class TrialState:
    """What the store knows of a trial."""

    kind: Literal["done", "partial", "failed", "new"]
    epochs_done: int = 0
    reason: str | None = None  # of a failure
    damaged: str | None = None  # why the folder of a finished trial failed verification
    record: TrialRecord | None = None  # of a finished trial
    weights: bool = True  # False: of a finished trial whose folder lacks them (``pipelines.store.left_out``)


@dataclass(frozen=True)
class StoredTrial:
    """A record and the folder it was read from."""

    record: TrialRecord
    folder: Path


class Store:
    """The results folder. Open it with ``Store.open``."""

    def __init__(self, results_dir: Path, *, writes: bool = False, trust_unchanged: bool = False) -> None:
        self.results_dir = results_dir
        self._writes = writes
        self._hashes = KnownHashes(results_dir, trust=trust_unchanged)

    @classmethod
    def open(cls, results_dir: Path, *, create: bool = False, trust_unchanged: bool = False) -> Store:
        """Open a results folder; one that is not there yet is an empty store.

        Args:
            results_dir: the folder.
            create: make it if it is missing, and check that it can be written to. Such a store remembers the hashes
                of finished trials' files for later looks.
            trust_unchanged: for a look only (``--plan``, ``--status``): believe a file that did not change since it
                was last hashed, instead of hashing it again.

        Raises:
            ValueError: if both are asked for: whatever trains or commits believes nothing.
            UserError: if it is not a folder, cannot be written to, or belongs to a newer version of this project.
        """
        if create and trust_unchanged:
            raise ValueError("a store that is written to believes no file unread; drop trust_unchanged or create")
        if create:
            make_writable(results_dir)
        elif results_dir.exists() and not results_dir.is_dir():
            raise UserError(f"results folder {results_dir} is a file; give a folder with --results-dir")
        path = results_dir / layout.STORE_FILE
        if path.exists():
            check_schema(path)
        elif create:
            write_text(path, json.dumps({"schema": STORE_SCHEMA}) + "\n")
        return cls(results_dir, writes=create, trust_unchanged=trust_unchanged)

    def folder(self, spec: TrialSpec | TrialRecord) -> Path:
        """Return the folder of the finished trial."""
        return layout.trial_folder(self.results_dir, spec)

    def work_folder(self, spec: TrialSpec) -> Path:
        """Return the folder in which the trial is trained, and make it."""
        folder = layout.work_folder(self.folder(spec))
        if folder.exists() and not folder.is_dir():
            self.set_aside(spec, work=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def state(self, spec: TrialSpec | TrialRecord) -> TrialState:
        """Return what is known of a trial; every file of a finished one is verified (see ``trust_unchanged``).

        Raises:
            UserError: if a newer version of this project wrote the record.
        """
        folder = self.folder(spec)
        damaged = None
        if folder.exists():
            try:
                record = verify_finished(folder, spec, self._hashes.sha256)
                weights = not left_out(folder, record)
                return TrialState("done", record.recipe.epochs, record=record, weights=weights)
            except VerificationError as error:
                damaged = str(error)
        work = layout.work_folder(folder)
        if not work.is_dir():
            return TrialState("new", damaged=damaged)
        epochs_done = _epochs_done(work, spec)
        with contextlib.suppress(VerificationError):
            record = read_own_record(work, spec)
            if record.status == "failed":
                return TrialState("failed", epochs_done, record.reason, damaged)
        return TrialState("partial" if _has_checkpoint(work) else "new", epochs_done, damaged=damaged)

    def epochs_done(self, spec: TrialSpec) -> int:
        """Return the epochs after which a trial that was begun goes on, 0 of any other; hashes nothing."""
        folder = self.folder(spec)
        return 0 if folder.exists() else _epochs_done(layout.work_folder(folder), spec)

    def states(self, specs: Sequence[TrialSpec]) -> list[TrialState]:
        """Return the states of many trials (hashing lets other threads run, so that it takes all cores)."""
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            found = list(pool.map(self.state, specs))
        if self._writes:
            self._hashes.save()
        return found

    def commit(self, spec: TrialSpec) -> bool:
        """Turn the working folder into the finished trial's, by one rename.

        Returns:
            False if the same trial was committed from elsewhere before; that one stays and this copy is dropped.

        Raises:
            CommitRefusedError: if the working folder is not a finished trial's.
        """
        folder = self.folder(spec)
        work = layout.work_folder(folder)
        trouble: Exception | None = None
        for _attempt in range(3):
            try:
                _sync_only(work, verify_finished(work, spec))
                os.rename(work, folder)  # noqa: PTH104 - the one call that counts; Path.rename is the same
            except (VerificationError, OSError) as error:  # OSError also when another process renames it under us
                trouble = error
                state = self.state(spec)
                if state.kind == "done":
                    _drop(work)
                    return False
                if state.damaged is not None:
                    self.set_aside(spec)
            else:
                sync(folder.parent)
                return True
        raise CommitRefusedError(f"{spec.trial_id} cannot be committed: {trouble}") from None

    def record_failure(self, spec: TrialSpec, reason: str, log_tail: str | None = None) -> None:
        """Leave the reason of a failure in the working folder; the checkpoint stays for ``--mode retry``."""
        record = TrialRecord(
            version=RECORD_VERSION,
            table=spec.table,
            row=spec.row,
            seed=spec.seed,
            scale=spec.scale,
            fingerprint=spec.fingerprint,
            recipe=spec.recipe,
            status="failed",
            reason=reason,
            log_tail=log_tail,
        )
        work = self.work_folder(spec)
        move_odd_files(work, [RECORD_FILE])
        write_text(work / RECORD_FILE, record_text(record))

    def clear_failure(self, spec: TrialSpec) -> None:
        """Forget a failure, so that the trial goes on from its last checkpoint."""
        (self.work_folder(spec) / RECORD_FILE).unlink(missing_ok=True)

    def set_aside(self, spec: TrialSpec, *, work: bool = False) -> Path | None:
        """Move the trial's folder (or its working folder) to ``set-aside/`` and return where it went."""
        folder = self.folder(spec)
        source = layout.work_folder(folder) if work else folder
        return layout.move_aside(self.results_dir, source)

    def reset(self, spec: TrialSpec) -> list[Path]:
        """Set everything of a trial aside, so that it starts afresh (``--mode force``); return where it went."""
        moved = (self.set_aside(spec), self.set_aside(spec, work=True))
        return [path for path in moved if path is not None]

    def records(self, table: str = "*", row: str = "*") -> Iterator[StoredTrial]:
        """Yield the record of every finished or failed trial, in order; what cannot be read is passed over.

        Files are not verified here: ``state`` does that.

        Raises:
            UserError: if a newer version of this project wrote a record.
        """
        for recipe in layout.recipe_folders(self.results_dir, table, row):
            for folder in sorted(layout.folders_in(recipe), key=_order):
                stored = _read_stored(folder)
                if stored is not None:
                    yield stored


def _epochs_done(work: Path, spec: TrialSpec | TrialRecord) -> int:
    values = read_json(work / PROGRESS_FILE)
    # where it goes on: epochs after its last checkpoint are trained once more
    epoch = values.get("saved", values.get("epoch")) if isinstance(values, dict) else None
    return min(max(epoch, 0), spec.recipe.epochs) if isinstance(epoch, int) and _has_checkpoint(work) else 0


def _has_checkpoint(work: Path) -> bool:
    return any((work / name).is_file() for name in _CHECKPOINTS)


def _sync_only(work: Path, record: TrialRecord) -> None:
    """Sync what belongs to the result and remove what does not (progress, temporary files)."""
    for path in work.iterdir():
        if path.name == RECORD_FILE or path.name in record.files:
            sync(path)
        elif path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
    sync(work)


def _drop(work: Path) -> None:
    aside = work.with_name(f".{work.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):  # gone already, or in use elsewhere: it is only a copy
        work.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _order(folder: Path) -> tuple[str, int, str]:
    return folder.parent.name, layout.seed_of(folder) or 0, folder.name


def _read_stored(folder: Path) -> StoredTrial | None:
    if layout.seed_of(folder) is None:
        return None
    try:
        record = read_record(folder / RECORD_FILE)
    except RecordError as error:
        if error.newer:
            raise UserError(str(error)) from None
        return None
    except OSError:
        return None
    identity = (record.table, record.row, record.fingerprint, f"seed-{record.seed}")
    if identity != (*folder.parts[-4:-1], folder.name.removesuffix(layout.WORK_SUFFIX)):
        return None  # another trial's, copied here
    expected = "failed" if folder.name.endswith(layout.WORK_SUFFIX) else "done"
    return StoredTrial(record, folder) if record.status == expected else None
