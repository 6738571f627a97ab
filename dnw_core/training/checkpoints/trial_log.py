"""A trial's own log file: one time-stamped line an event, appended across sessions."""

from __future__ import annotations

import os
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from dnw_core.files import move_odd_files


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class TrialLog:
    """Appends lines to a file, and sends Python warnings there while it is open.

    Args:
        path: the file; None writes nothing, on workers other than the main one.
    """

    def __init__(self, path: Path | None) -> None:
        moved = _keep_inside(path) if path is not None else []
        path = Path(os.devnull) if path is None else path
        self._file = path.open("a", encoding="utf-8")
        self._showwarning = warnings.showwarning
        for sentence in moved:
            self.write(sentence)

    def write(self, line: str) -> None:
        """Append one line."""
        self._file.write(f"{now()} {line}\n")
        self._file.flush()

    def __enter__(self) -> TrialLog:
        def show(
            message: Any, category: Any, filename: str, lineno: int, file: TextIO | None = None, line: Any = None
        ) -> None:
            self.write(f"{category.__name__}: {message}")

        warnings.showwarning = show
        return self

    def __exit__(self, *error: object) -> None:
        warnings.showwarning = self._showwarning
        self._file.close()


def _keep_inside(path: Path) -> list[str]:
    """Move a log away that is a link, or has a second name elsewhere, where lines would be written; say what moved."""
    moved = move_odd_files(path.parent, [path.name])
    if path.exists() and path.stat().st_nlink > 1:
        path.rename(path.with_name(f"{path.name}.linked"))
        moved.append(f"{path.name} had a second name elsewhere; moved out of the way")
    return moved
