"""Text that several rooms print: durations, columns, errors in one line."""

from __future__ import annotations

from collections.abc import Sequence


def duration(seconds: float | None) -> str:
    """Return a time to read: ``45 s``, ``12 min``, ``3.5 h``, ``2.1 days``; nothing for None."""
    if seconds is None:
        return ""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def columns(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return one line a row of cells, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def one_line(error: BaseException | str, limit: int = 300, last: bool = False) -> str:
    """Return the first line of an error, or its last one, cut to ``limit`` characters.

    Blank lines do not count. An exception without a text is named by its class; a blank text gives an empty line.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    unnamed = "" if isinstance(error, str) else type(error).__name__
    return (lines or [unnamed])[-1 if last else 0][:limit]
