"""Finished trials that belong to no row of the report: a section of ``results.md``, and ``leftovers.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from reports.export import write_frame
from reports.text import code, encodable, escape
from reports.trials import frame

STEM = "leftovers"
COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "fingerprint": "string",
    "seed": "Int64",
    "scale": "string",
    "reason": "string",  # why it is none of a row's
    "folder": "string",  # below the results folder
}
_NO_ROW = "the tables have no such row"

Leftovers = Sequence[Mapping[str, Any]]
"""A trial each: ``table``, ``row``, ``fingerprint``, ``seed``, ``scale``, ``folder``; ``has_row``, and if it has, the
``changes`` of its recipe."""


def leftover_section(leftovers: Leftovers) -> list[str]:
    """Return the section; nothing where there are none."""
    if not leftovers:
        return []
    items = []
    for (table, row, _), group in groupby(leftovers, lambda one: (one["table"], one["row"], one["fingerprint"])):
        trials = list(group)
        recipe = f"recipe {code(encodable(trials[0]['fingerprint']))}"
        count = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}"
        items.append(
            f"- {code(encodable(f'{table}/{row}'))}, {recipe}, {count}: {escape(encodable(_reason(trials[0])))}"
        )
    lost = sum(not one["has_row"] for one in leftovers)
    counts = [f"{lost} belong{'s' if lost == 1 else ''} to no row of the tables"] if lost else []
    other = len(leftovers) - lost
    counts += (
        [f"{other} {'was' if other == 1 else 'were'} trained with another recipe than its row has now"] if other else []
    )
    return [
        "## Finished trials that are not shown above",
        f"Of the finished trials in this folder {' and '.join(counts)}. `{STEM}.csv` and `{STEM}.parquet`.",
        "\n".join(items),
    ]


def write_leftovers(leftovers: Leftovers, folder: Path) -> None:
    """Write ``leftovers.csv`` and ``leftovers.parquet``; without any only where an older report has left such files."""
    if leftovers or (folder / f"{STEM}.csv").exists():
        lines = [{**{key: _plain(value) for key, value in one.items()}, "reason": _reason(one)} for one in leftovers]
        write_frame(frame(lines, COLUMNS), COLUMNS, folder / STEM)


def _reason(one: Mapping[str, Any]) -> str:
    return encodable("; ".join(one["changes"])) if one["has_row"] else _NO_ROW


def _plain(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value
