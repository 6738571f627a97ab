"""Damaged results folders: two finished trials of one row, and what can be wrong with the second one's folder.

``good_trial`` writes what training leaves, made of a few numbers that the seed determines; ``cases`` gives the harms.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from dnw_core.files import sha256_of
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_COLUMNS,
    HISTORY_FILE,
    LOG_FILE,
    PROGRESS_FILE,
    RECORD_FILE,
    WIRING_FILE,
    Cost,
    EpochMetrics,
    Scores,
    TrialRecord,
    record_text,
    sealed,
)
from pipelines.spec import TrialSpec
from pipelines.store.layout import work_folder
from support.corpus.damage import Harm, raw_harms
from support.stubs.store import write_finished

FILES = (RECORD_FILE, HISTORY_FILE, WIRING_FILE, CHECKPOINT_FILE, LOG_FILE)
Damage = Callable[[Path], None]  # of a finished trial's folder


def good_trial(folder: Path, spec: TrialSpec) -> TrialRecord:
    """Write a finished trial whose numbers follow from its seed."""
    record = write_finished(folder, spec)
    accuracies = [min(round(0.3 + 0.001 * spec.seed + 0.07 * epoch, 6), 0.9) for epoch in range(spec.recipe.epochs)]
    lines = [
        EpochMetrics(
            epoch=epoch,
            learning_rate=0.1,
            train_loss=1.5 - epoch / 10,
            train_accuracy=accuracy,
            test_loss=1.6 - epoch / 10,
            test_accuracy=accuracy,
            edges=32,
            edges_swapped=3,
            live_edges=30,
            live_nodes=20,
            seconds=2.5,
        )
        for epoch, accuracy in enumerate(accuracies)
    ]
    schema = pa.schema(list(HISTORY_COLUMNS.items()))
    parquet.write_table(pa.Table.from_pylist([line.model_dump() for line in lines], schema), folder / HISTORY_FILE)
    edges = np.roll(np.arange(32, dtype=np.int32), spec.seed)
    wiring = {
        "graph.rows": edges,
        "graph.columns": edges[::-1],
        "graph.live": edges > 1,
        "graph.shape": [40, 40 + spec.seed],
    }
    np.savez(folder / WIRING_FILE, **{name: np.asarray(value) for name, value in wiring.items()})
    last = lines[-1]
    scores = Scores(
        epoch=last.epoch, test_accuracy=last.test_accuracy, test_loss=last.test_loss, train_loss=last.train_loss
    )
    counts = dict.fromkeys((name for name in Cost.model_fields if name != "applications"), 32)
    record = record.model_copy(
        update={
            "last": scores,
            "best": scores,
            "cost": Cost(**counts),
            "files": {name: sha256_of(folder / name) for name in FILES[1:]},
        }
    )
    (folder / RECORD_FILE).write_text(record_text(record), "utf-8")
    return record


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], *, seal: bool = False) -> None:
    """Change a record's values, with a digest that fits again or with the one that it had."""
    values = json.loads((folder / RECORD_FILE).read_text("utf-8"))
    change(values)
    (folder / RECORD_FILE).write_text(json.dumps(sealed(values) if seal else values), "utf-8")


def keep_hash(folder: Path, name: str) -> None:
    """Write a file's new hash into the record, as one who means to deceive would."""
    rewrite(folder, lambda values: values["files"].update({name: sha256_of(folder / name)}), seal=True)


def cases() -> dict[str, Damage]:
    """Return what can be wrong with a finished trial's folder, by name. None of it may count as the trial's result."""
    made: dict[str, Damage] = {}
    for name in FILES:
        made[f"{name} missing"] = lambda folder, name=name: (folder / name).unlink()  # type: ignore[misc]
        for kind, put in _ODD.items():
            made[f"{name} is {kind}"] = _instead(name, put)
        made[f"{name} of another trial"] = _swapped(name)
    for name, harm in {**raw_harms("record", 16), **_RECORD_TEXTS}.items():
        made[f"record: {name}"] = _bytes(RECORD_FILE, harm)
    for name, harm in raw_harms("history", 4).items():
        made[f"history: {name}"] = _bytes(HISTORY_FILE, harm)
    for name, change in _RECORD_VALUES.items():
        made[f"record says {name}"] = lambda folder, change=change: rewrite(folder, change)  # type: ignore[misc]
    return made


def telling_cases() -> dict[str, Damage]:
    """Return damage of which the record is made to fit itself again: what its figures say must still be refused."""
    sealed_changes = {name: change for name, change in _RECORD_VALUES.items() if name not in _BELIEVABLE}
    return {
        f"record, sealed again, says {name}": lambda folder, change=change: rewrite(folder, change, seal=True)  # type: ignore[misc]
        for name, change in sealed_changes.items()
    }


def work_cases() -> dict[str, Damage]:
    """Return what can stand in the way of a trial that is to be trained (given: its finished folder, not there)."""
    made: dict[str, Damage] = {
        "the working folder is a file": lambda folder: _made(work_folder(folder)).write_text("x") and None,
        "the working folder is a pipe": lambda folder: os.mkfifo(_made(work_folder(folder))),
        "the finished folder is a file": lambda folder: _made(folder).write_text("x") and None,
        "the finished folder is a pipe": lambda folder: os.mkfifo(_made(folder)),
        "the finished folder is empty": lambda folder: folder.mkdir(parents=True),
        "progress is nonsense": lambda folder: _work_file(folder, PROGRESS_FILE, '{"epoch": -1e999, "metrics": []}'),
        "progress is deep": lambda folder: _work_file(folder, PROGRESS_FILE, "[" * 100_000),
        "progress is a long number": lambda folder: _work_file(folder, PROGRESS_FILE, f'{{"epoch": {"9" * 6000}}}'),
        "progress out of range": lambda folder: _work_file(
            folder,
            PROGRESS_FILE,
            '{"epoch": 99, "epochs": 2, "metrics": {"test_accuracy": 1e308}, "host": "\\u001b[2J"}',
        ),
        "the failure is nonsense": lambda folder: _work_file(folder, RECORD_FILE, '{"status": "failed"}'),
        "the record is of a done trial": _half_committed,
    }
    for name in (RECORD_FILE, PROGRESS_FILE):
        for kind, put in _ODD.items():
            made[f"{name} of the working folder is {kind}"] = (
                lambda folder, name=name, put=put: put(_made(work_folder(folder) / name))  # type: ignore[misc]
            )
    return made


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _work_file(folder: Path, name: str, text: str) -> None:
    _made(work_folder(folder) / name).write_text(text)
    (work_folder(folder) / CHECKPOINT_FILE).write_bytes(b"checkpoint")


def _half_committed(folder: Path) -> None:
    other = folder.with_name("seed-0")
    shutil.copytree(other, work_folder(folder))


def _bytes(name: str, harm: Harm) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(harm((folder / name).read_bytes()))

    return damage


def _instead(name: str, put: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        put(folder / name)

    return damage


def _swapped(name: str) -> Damage:
    return lambda folder: shutil.copy(folder.with_name("seed-0") / name, folder / name) and None


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_PATH)  # a socket's own path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30 if path.name in (RECORD_FILE, PROGRESS_FILE) else 40 << 20)


_ODD: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a hole": _hole,
}


def _set(where: str, value: Any) -> Callable[[dict[str, Any]], object]:
    *sections, last = where.split(".")

    def change(values: dict[str, Any]) -> None:
        node = values
        for name in sections:
            node = node[name]
        node[last] = value

    return change


_FIGURES: dict[str, tuple[str, Any]] = {
    "an accuracy above 1": ("last.test_accuracy", 1.7),
    "an accuracy below 0": ("last.test_accuracy", -0.1),
    "no number for an accuracy": ("last.test_accuracy", float("nan")),
    "an infinite accuracy": ("last.test_accuracy", float("inf")),
    "a text for an accuracy": ("last.test_accuracy", "0.9"),
    "true for an accuracy": ("last.test_accuracy", True),
    "another accuracy": ("last.test_accuracy", 0.99),
    "another best accuracy": ("best.test_accuracy", 0.999),
    "a lower best accuracy": ("best.test_accuracy", 0.01),
    "an earlier last epoch": ("last.epoch", 0),
    "a later last epoch": ("last.epoch", 99),
    "a best epoch after the end": ("best.epoch", 99),
    "a negative epoch": ("last.epoch", -1),
    "no scores": ("last", None),
    "a list for scores": ("last", [1]),
    "negative edges": ("cost.edges", -5),
    "endless edges": ("cost.edges", 10**30),
    "half an edge": ("cost.edges", 0.5),
    "a text for a cost": ("cost", "much"),
    "negative seconds": ("train_seconds", -1.0),
    "endless seconds": ("train_seconds", float("inf")),
    "negative memory": ("peak_memory_bytes", -1),
    "another seed": ("seed", 0),
    "a negative seed": ("seed", -1),
    "true for a seed": ("seed", True),
    "an endless seed": ("seed", 10**30),
    "another row": ("row", "static-random"),
    "a way out for a row": ("row", "../../../../tmp"),
    "another table": ("table", "wirings"),
    "another fingerprint": ("fingerprint", "00000000"),
    "another density": ("recipe.wiring.density", 0.5),
    "other epochs": ("recipe.epochs", 90),
    "an unknown rule": ("recipe.wiring.rule", "magic"),
    "that it failed": ("status", "failed"),
    "an unknown status": ("status", "perhaps"),
    "an older version": ("version", 0),
    "a text for a version": ("version", "4"),
    "true for a version": ("version", True),
    "no files": ("files", {}),
    "a list of files": ("files", ["history.parquet"]),
    "a file elsewhere": ("files", {"../../../../../etc/passwd": "0" * 64}),
    "a hash that is none": ("files.history.parquet", "x"),
    "an unknown key": ("surprise", 1),
}
_RECORD_VALUES: dict[str, Callable[[dict[str, Any]], object]] = {
    name: (
        (lambda values: values["files"].update({HISTORY_FILE: "x"}))
        if where.startswith("files.")
        else _set(where, value)
    )
    for name, (where, value) in _FIGURES.items()
}
_BELIEVABLE = ("another best accuracy",)  # the store reads no history; the report does, and refuses it
_RECORD_TEXTS: dict[str, Harm] = {
    "deep": lambda _: b"[" * 100_000,
    "a long number": lambda good: re.sub(rb'"seed": \d+', b'"seed": ' + b"9" * 6000, good),
    "a list": lambda _: b"[1]",
    "a word": lambda _: b'"done"',
    "null": lambda _: b"null",
    "nothing in it": lambda _: b"{}",
    "UTF-16": lambda good: good.decode().encode("utf-16"),
    "byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "a lone surrogate": lambda good: good.replace(b'"here"', b'"\\ud800"'),
    "one digit changed": lambda good: good.replace(b'"test_accuracy": 0.', b'"test_accuracy": 0.0', 1),
    "a key twice": lambda good: good.replace(b'"status": "done"', b'"status": "done", "status": "failed"'),
    "twice": lambda good: good + good,
}
