"""A trial's own log file: one time-stamped line an event, appended across sessions."""

from __future__ import annotations

import os
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO


class TrialLog:
    """Appends lines to a file, and sends Python warnings there while it is open.

    Args:
        path: the file; None writes nothing, on workers that leave that to the first one.
    """

    def __init__(self, path: Path | None) -> None:
        path = Path(os.devnull) if path is None else path
        self._file = path.open("a", encoding="utf-8")
        self._showwarning = warnings.showwarning

    def write(self, line: str) -> None:
        """Append one line."""
        self._file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")
        self._file.flush()

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def __enter__(self) -> TrialLog:
        def show(
            message: Any, category: Any, filename: str, lineno: int, file: TextIO | None = None, line: Any = None
        ) -> None:
            self.write(f"{category.__name__}: {message}")

        warnings.showwarning = show
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        warnings.showwarning = self._showwarning
        self._file.close()
