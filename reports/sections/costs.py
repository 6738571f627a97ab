"""The cost of each row's network beside the published counts: a section of the report.

The counts come in as plain dicts (``COST_COLUMNS``) from the pipeline, which alone can build networks. They are those
of the paper's recipe, whatever the scale of the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.text import DASH, code, count, escape, grid

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
    "nodes, ordinary ones with norms and biases, residual ones by their kept weights (and the bias of a linear "
    "classifier), as the papers count them. Where training divides the weights among the layers, their number is known "
    "before it, the multiply-adds are not."
)
_COUNTS = (("parameters", "Parameters"), ("macs", "MACs"))
_TITLES = {
    "published": "published",
    "nothing_dead": "nothing dead",
    "at_start": "at the start",
    "trained": "trained",
    "agreement": "agreement",
}
_TEXTS = ("published", "agreement")


def cost_section(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the section of one table as Markdown; nothing where no line was counted.

    Args:
        lines: the table's lines, with ``COST_COLUMNS``.
    """
    if not lines:
        return []
    kinds = {name: _kinds(lines, name) for name, _ in _COUNTS}
    header, right = ["Row"], set()
    for name, title in _COUNTS:
        titles = [f"{title}, {_TITLES[kinds[name][0]]}", *(_TITLES[kind] for kind in kinds[name][1:])]
        header += titles
        right |= {title for title, kind in zip(titles, kinds[name], strict=True) if kind not in _TEXTS}
    return [HEADING, grid(header, [_cells(line, kinds) for line in lines], right), _NOTE]


def _kinds(lines: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Return a count's columns: the published ones only where a row of the table has or misses a published count."""
    printed = any(pd.notna(line[f"{name}_published"]) or pd.notna(line["not_reproducible"]) for line in lines)
    counts = ["nothing_dead", "at_start", *(["trained"] if any(line["trained_seeds"] for line in lines) else [])]
    return ["published", *counts, "agreement"] if printed else counts


def _cells(line: Mapping[str, Any], kinds: Mapping[str, Sequence[str]]) -> list[str]:
    cells = [f"{escape(line['label'])}<br>{code(line['row'])}"]
    for name, _ in _COUNTS:
        for kind in kinds[name]:
            value = line[f"{name}_{kind}"]
            if kind == "agreement" and pd.notna(line["not_reproducible"]):
                cells.append(f"not reproducible: {escape(line['not_reproducible'])}")
            else:
                cells.append(_text(value) if kind in _TEXTS else _count(value))
    return cells


def _text(value: Any) -> str:
    return DASH if pd.isna(value) else escape(value)


def _count(value: Any) -> str:
    return DASH if pd.isna(value) else count(float(value))
