"""Takes finished trials over from another results folder: this project's ``evidence/``, a colleague's, an older one.

Everything is verified before the first file is copied. A trial keeps its record, and with it who trained it, when, on
what and from which commit; its folder appears by one rename, as that of a trial trained here.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnw_core.errors import RecordError, UserError
from dnw_core.files import sync
from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE, TrialRecord, read_record
from pipelines.store import layout
from pipelines.store.folder import Store, StoredTrial
from pipelines.store.left_out import LEFT_OUT_FILE, leave_out_weights, left_out
from pipelines.store.verify import VerificationError, verify_finished


@dataclass(frozen=True)
class Adopted:
    """What was copied, and what was there before with the same bits."""

    copied: Sequence[TrialRecord]
    present: Sequence[TrialRecord]


def adopt_trials(source: Path, store: Store, *, weights: bool = True, scale: str | None = None) -> Adopted:
    """Copy every finished trial of the results folder ``source`` into ``store``; nothing in ``source`` changes.

    A trial that ``store`` has without its weights is replaced by one that has them.

    Args:
        source: a results folder; trials that are not finished are passed over.
        store: the folder that receives them, opened for writing.
        weights: whether checkpoints are copied, where there are any.
        scale: copy trials of this scale only; None for all.

    Raises:
        UserError: before anything is copied, if ``source`` is no results folder or holds no finished trial, if one of
            its trials is damaged, another's or of a newer version, or if ``store`` has one with other results.
    """
    found = [one for one in finished_trials(source) if scale in (None, one.record.scale)]
    if not found:
        of_scale = f" of scale {scale}" if scale else ""
        raise UserError(f"{source} holds no finished trial{of_scale}; give the folder of results that has some")
    present = [one.record for one in found if _is_here(store, one, weights=weights)]
    copied = [one for one in found if one.record not in present]
    for one in copied:
        _copy(one, store, weights=weights)
    return Adopted([one.record for one in copied], present)


def finished_trials(source: Path) -> list[StoredTrial]:
    """Return the finished trials of a results folder, every file of them verified.

    Raises:
        UserError: if it is no results folder, or a trial of it cannot be vouched for.
    """
    if not (source / layout.STORE_FILE).is_file():
        raise UserError(f"{source} is not a results folder: it has no {layout.STORE_FILE}")
    Store.open(source)  # refuses those of newer versions
    return [
        StoredTrial(_verified(folder), folder)
        for recipe in layout.recipe_folders(source)
        for folder in sorted(layout.folders_in(recipe), key=lambda folder: layout.seed_of(folder) or 0)
        if layout.seed_of(folder) is not None and not folder.name.endswith(layout.WORK_SUFFIX)
    ]


def _verified(folder: Path) -> TrialRecord:
    try:
        record = read_record(folder / RECORD_FILE)
        verify_finished(folder, record)
    except RecordError as error:
        raise UserError(str(error)) from None
    except VerificationError as error:
        raise UserError(f"{folder}: {error}") from None
    except OSError as error:
        raise UserError(f"{folder}: {RECORD_FILE} cannot be read ({error.strerror})") from None
    if (record.table, record.row, record.fingerprint, f"seed-{record.seed}") != folder.parts[-4:]:
        name = f"{record.table}/{record.row} {record.fingerprint} seed {record.seed}"
        raise UserError(f"{folder} holds another trial's record, of {name}; move it to that trial's folder")
    return record


def _is_here(store: Store, one: StoredTrial, *, weights: bool) -> bool:
    """Whether the store has the same trial with the same results, and nothing of it is to be had here."""
    state = store.state(one.record)
    if state.record is None:
        return False
    if state.record != one.record:
        ours, theirs = (
            f"{100 * record.last.test_accuracy:.2f} %" for record in (state.record, one.record) if record.last
        )
        raise UserError(
            f"{one.folder}: {store.folder(one.record)} holds this trial with other results ({ours} there, {theirs} "
            "here); move one of them away"
        )
    return state.weights or not weights or bool(left_out(one.folder, one.record))


def _copy(one: StoredTrial, store: Store, *, weights: bool) -> None:
    target = store.folder(one.record)
    for old in (target, layout.work_folder(target)):  # damaged, without weights, or only begun
        layout.move_aside(store.results_dir, old)
    target.parent.mkdir(parents=True, exist_ok=True)
    arriving = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    arriving.mkdir()
    lacking = left_out(one.folder, one.record)
    for name in (RECORD_FILE, *one.record.files):
        if name not in lacking and (weights or name != CHECKPOINT_FILE):
            shutil.copyfile(one.folder / name, arriving / name)
            sync(arriving / name)
    if not (arriving / CHECKPOINT_FILE).exists():
        leave_out_weights(arriving, one.record)
        sync(arriving / LEFT_OUT_FILE)
    verify_finished(arriving, one.record)
    os.rename(arriving, target)  # noqa: PTH104 - Path.rename is the same
    sync(target.parent)
