"""Finished trials without their weights: record, history, wiring and log, in a tenth of the space or less.

Such a folder says in ``left-out.json`` which file it lacks and what that file's SHA-256 was: the record's own, else the
trial is damaged. Everything reads it as any finished trial; only a row that starts from its weights cannot.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from dnw_core.files import read_json, write_text
from dnw_core.record import CHECKPOINT_FILE, TrialRecord

LEFT_OUT_FILE = "left-out.json"


class _LeftOut(BaseModel, extra="forbid"):
    """The content of ``left-out.json``."""

    version: Literal[1] = 1
    files: dict[Literal["checkpoint.pt"], str]


def leave_out_weights(folder: Path, record: TrialRecord) -> None:
    """Write into a trial's folder that its weights are not there."""
    content = _LeftOut(files={CHECKPOINT_FILE: record.files[CHECKPOINT_FILE]})
    write_text(folder / LEFT_OUT_FILE, json.dumps(content.model_dump(), indent=2) + "\n")


def left_out(folder: Path, record: TrialRecord) -> frozenset[str]:
    """Return the files of the record that the folder says it lacks, and does lack."""
    try:
        said = _LeftOut.model_validate(read_json(folder / LEFT_OUT_FILE))
    except ValueError:  # missing or damaged
        return frozenset()
    same = said.files == {CHECKPOINT_FILE: record.files.get(CHECKPOINT_FILE)}
    return frozenset(said.files) if same and not (folder / CHECKPOINT_FILE).exists() else frozenset()
