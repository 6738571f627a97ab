"""What each row's network costs, beside the published counts: a table of the report and its data files.

The counts come in as plain dicts (``COST_COLUMNS``) from the pipeline, which alone can build networks. They are those
of the paper's recipe, whatever the scale of the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reports.export import write_frame
from reports.text import DASH, code, count, escape
from reports.trials import frame

COST_COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "label": "string",
    "extra": "boolean",
    "parameters_published": "string",  # as printed
    "parameters_nothing_dead": "Int64",
    "parameters_at_start": "Int64",  # with the edges that seed 0 begins with
    "parameters_trained": "float64",  # mean of the finished trials at paper scale
    "parameters_agreement": "string",
    "macs_published": "string",
    "macs_nothing_dead": "Int64",
    "macs_at_start": "Int64",
    "macs_trained": "float64",
    "macs_agreement": "string",
    "after_training": "boolean",  # training decides the counts
    "trained_seeds": "Int64",
    "not_reproducible": "string",  # why
}
Costs = Sequence[Mapping[str, Any]]

HEADING = "### Parameters and multiply-adds of the paper's recipe"
_NOTE = (
    "*Nothing dead*: every node sends and every output is fed. *At the start*: the edges that seed 0 begins with "
    "(unknown where another row's trial decides them). *Agrees*: within 1 %, or ours rounds to the printed digits. "
    "Where training decides which nodes die (DNW), the published counts are the trained network's, and agree *only "
    "after training*; in a random graph the draw decides it. Graph networks are counted without norms, biases and dead "
    "nodes, ordinary ones with norms and biases, as the papers count them."
)
_COUNTS = (("parameters", "Parameters"), ("macs", "MACs"))


def cost_frame(costs: Costs) -> pd.DataFrame:
    """Return the costs as a frame (``COST_COLUMNS``), one line a row of the paper's tables or beside them."""
    return frame([dict(line) for line in costs], COST_COLUMNS)


def write_costs(costs: pd.DataFrame, out_dir: Path) -> tuple[Path, Path]:
    """Write ``costs.csv`` and ``costs.parquet``."""
    return write_frame(costs, COST_COLUMNS, out_dir / "costs")


def cost_section(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the section of one table as Markdown; nothing where no line was counted.

    Args:
        lines: the table's lines of ``cost_frame``.
    """
    if not lines:
        return []
    trained = any(line["trained_seeds"] for line in lines)
    header, right = ["Row"], [False]
    for _, title in _COUNTS:
        header += [
            f"{title}, published",
            "nothing dead",
            "at the start",
            *(["trained"] if trained else []),
            "agreement",
        ]
        right += [False, True, True, *([True] if trained else []), False]
    ruler = "|".join(" ---: " if one else " --- " for one in right)
    rows = ["| " + " | ".join(header) + " |", f"|{ruler}|"]
    rows += ["| " + " | ".join(_cells(line, trained)) + " |" for line in lines]
    return [HEADING, "\n".join(rows), _NOTE]


def _cells(line: Mapping[str, Any], trained: bool) -> list[str]:
    cells = [f"{escape(line['label'])}<br>{code(line['row'])}"]
    for name, _ in _COUNTS:
        kinds = ["nothing_dead", "at_start", *(["trained"] if trained else [])]
        cells.append(_text(line[f"{name}_published"]))
        cells += [_count(line[f"{name}_{kind}"]) for kind in kinds]
        lost = line["not_reproducible"]
        cells.append(f"not reproducible: {escape(lost)}" if pd.notna(lost) else _text(line[f"{name}_agreement"]))
    return cells


def _text(value: Any) -> str:
    return DASH if pd.isna(value) else escape(value)


def _count(value: Any) -> str:
    return DASH if pd.isna(value) else count(float(value))
