"""Finished trials made of a few bytes, by the record's schema: for the planner, the store and the command."""

from __future__ import annotations

from pathlib import Path

from dnw_core.files import sha256_of
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    LOG_FILE,
    PROGRESS_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    WIRING_FILE,
    Provenance,
    Scores,
    TrialRecord,
)
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store


def write_finished(folder: Path, spec: TrialSpec, *, accuracy: float = 0.8, seconds: float = 10.0) -> TrialRecord:
    """Write what a finished trial leaves into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE):
        (folder / name).write_bytes(f"{name} of {spec.trial_id}".encode())
    scores = Scores(epoch=spec.recipe.epochs - 1, test_accuracy=accuracy, test_loss=0.5, train_loss=0.4)
    record = TrialRecord(
        version=RECORD_VERSION,
        table=spec.table,
        row=spec.row,
        seed=spec.seed,
        scale=spec.scale,
        fingerprint=spec.fingerprint,
        recipe=spec.recipe,
        status="done",
        last=scores,
        best=scores,
        train_seconds=seconds,
        provenance=Provenance(
            commit="unknown",
            dirty=False,
            packages={},
            python="3.11",
            hostname="here",
            processor="stub",
            accelerator="",
            device="cpu",
            threads=1,
            data_checksum="0" * 64,
            started_at="2026-01-01T00:00:00+00:00",
            finished_at="2026-01-01T00:01:00+00:00",
            resumed=0,
        ),
        files={name: sha256_of(folder / name) for name in (HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)},
    )
    (folder / RECORD_FILE).write_text(record.model_dump_json(), "utf-8")
    return record


def finish(store: Store, spec: TrialSpec, *, accuracy: float = 0.8, seconds: float = 10.0) -> None:
    """Train (pretend) and commit a trial."""
    write_finished(store.work_folder(spec), spec, accuracy=accuracy, seconds=seconds)
    assert store.commit(spec)


def interrupt(store: Store, spec: TrialSpec, epochs: int) -> None:
    """Leave a trial as Ctrl-C leaves it."""
    work = store.work_folder(spec)
    (work / CHECKPOINT_FILE).write_bytes(b"checkpoint")
    (work / PROGRESS_FILE).write_text(f'{{"epoch": {epochs}, "epochs": {spec.recipe.epochs}, "metrics": null}}')
