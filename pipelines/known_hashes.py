"""Hashes of finished trials' files, remembered so that looking at a plan does not read gigabytes.

Only a look (``--plan``, ``--status``) believes what is remembered, and only of a file whose size, inode and times of
change are still those of when it was hashed. Whatever trains, commits or reports reads every byte. What is remembered
is a fact about a file, not a verdict: it is held against the record anew each time. In a copied results folder inodes
and times are others, so nothing matches and everything is hashed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from dnw_core.files import read_json, sha256_of, write_text
from pipelines.layout import KNOWN_HASHES_FILE, TRIALS

SETTLED_NS = 2_000_000_000
"""A file younger than that when it is hashed is not remembered: coarse clocks may not show its next change."""

_VERSION = 1
_Mark = list[int]  # size, inode, mtime and ctime in ns


class KnownHashes:
    """SHA-256 of files below a results folder.

    Args:
        results_dir: the results folder.
        trust: believe what is remembered of a file that did not change. Else every call of ``sha256`` reads the file.
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
        text = json.dumps({"version": _VERSION, "files": merged})
        with contextlib.suppress(OSError):  # a full disk: the next look hashes
            write_text(self._results_dir / KNOWN_HASHES_FILE, text + "\n")

    def _is_there(self, name: str) -> bool:
        if not name.startswith(f"{TRIALS}/") or ".." in name:
            return False  # none of ours: the file may come from anywhere
        try:
            return (self._results_dir / name).is_file()
        except OSError:  # a name that is no file's
            return False

    def _load(self) -> dict[str, tuple[_Mark, str]]:
        if self._known is None:
            self._known = _entries(read_json(self._results_dir / KNOWN_HASHES_FILE))
        return self._known


def _mark(path: Path) -> _Mark:
    status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - Path.stat is the same
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _entries(values: object) -> dict[str, tuple[_Mark, str]]:
    """Return what the file says, or nothing if it is missing, damaged or of another version."""
    if not isinstance(values, dict) or values.get("version") != _VERSION or not isinstance(values.get("files"), dict):
        return {}
    entries: dict[str, tuple[_Mark, str]] = {}
    for name, entry in values["files"].items():
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list) and isinstance(entry[1], str):
            entries[name] = entry[0], entry[1]
    return entries
