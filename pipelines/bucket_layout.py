"""What the objects of a results bucket are called.

    store.json                                             {"schema": 1, "layout": "bucket"}
    drivers/                                               who works on it (``lease``), and the mark that asks to stop
    trials/<table>/<row>/<fingerprint>/seed-<n>/           a finished trial
        <file>.<bytes>.<sha256>                            its files, each named by what it holds
        trial.json                                         written last: there it is, or there is no finished trial
    trials/<table>/<row>/<fingerprint>/seed-<n>.work/      a trial that runs, was interrupted, or failed
        checkpoint.pt.<bytes>.<sha256>                     the newest counts, the one before it is kept
        log.txt progress.json (trial.json when it failed)
    set-aside/                                             as in a folder
    results.md ...                                         the report, brought here at the end

A name that tells size and hash cannot be half of something: a truncated object has another size than its name says, and
two processes that finish the same trial never mix their files.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from pipelines.layout import SET_ASIDE, TRIALS, WORK_SUFFIX
from pipelines.spec import TrialSpec

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,80})\.(\d{1,15})\.([0-9a-f]{64})")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


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


def is_plain(name: str) -> bool:
    """Whether a name is that of a file right in a folder, and not hidden."""
    return _PLAIN.fullmatch(name) is not None and ".." not in name
