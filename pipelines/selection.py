"""Which rows and seeds a command means: ``--table``, ``--only``, ``--no-extra``, ``--seeds``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from dnw_core.errors import UserError
from pipelines.overrides import VARIANT_MARK
from tune_configs import Row, Table
from tune_configs.validation import nearest

MOST_SEEDS = 1000


def select_rows(
    tables: dict[str, Table], *, only: Sequence[str] = (), table_ids: Sequence[str] = (), extra: bool = True
) -> list[Row]:
    """Return the rows that are meant, in the order of the tables.

    Args:
        tables: all tables.
        only: patterns of ``table/row`` (shell wildcards); a row is meant if any of them matches.
        table_ids: tables that are meant; all by default.
        extra: whether extra rows count.

    Raises:
        UserError: for an unknown table, a pattern that matches nothing (the nearest name is given), or if nothing is
            left without extra rows.
    """
    for name in table_ids:
        if name not in tables:
            raise UserError(f"--table: there is no table {name!r}{nearest(name, tables)}")
    candidates = [
        row
        for table in tables.values()
        if not table_ids or table.id in table_ids
        for row in table.rows.values()
        if extra or not row.extra
    ]
    if not candidates:
        raise UserError(f"--no-extra leaves nothing: all rows of {', '.join(table_ids or tables)} are extra ones")
    for pattern in only:
        _check_pattern(pattern, candidates, tables)
    return [row for row in candidates if not only or any(_matches(row, pattern) for pattern in only)]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse ``5`` (seeds 0 to 4) or ``0,1,2`` (these ones; a single one is written ``7,``).

    Raises:
        UserError: if it is neither, or a seed is given twice.
    """
    parts = [part.strip() for part in text.strip().removesuffix(",").split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UserError(f"--seeds {text!r} is neither a number of seeds (5) nor a list of seeds (0,1,2)")
    numbers = [int(part) for part in parts]
    if "," not in text:
        if not 1 <= numbers[0] <= MOST_SEEDS:
            raise UserError(
                f"--seeds {text} is not between 1 and {MOST_SEEDS}; one seed by its name is written '{text},'"
            )
        return tuple(range(numbers[0]))
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {text!r} names a seed twice; name each once")
    return tuple(sorted(numbers))


def seeds_text(seeds: Sequence[int]) -> str:
    """Return the shortest ``--seeds`` that means these seeds."""
    if list(seeds) == list(range(len(seeds))):
        return str(len(seeds))
    return ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")


def _matches(row: Row, pattern: str) -> bool:
    return fnmatch.fnmatchcase(f"{row.table}/{row.id}", pattern)


def _check_pattern(pattern: str, candidates: list[Row], tables: dict[str, Table]) -> None:
    if VARIANT_MARK in pattern:
        raise UserError(f"--only {pattern!r} names a variant; name its row and give the settings with --set")
    if any(_matches(row, pattern) for row in candidates):
        return
    names = [f"{row.table}/{row.id}" for row in candidates]
    everywhere = [f"{row.table}/{row.id}" for table in tables.values() for row in table.rows.values()]
    if any(fnmatch.fnmatchcase(name, pattern) for name in everywhere):
        raise UserError(f"--only {pattern!r} matches only rows that --table or --no-extra leave out")
    raise UserError(f"--only {pattern!r} matches no row{nearest(pattern, names)}")
