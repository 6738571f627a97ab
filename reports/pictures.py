"""A table's figures, in the order of the report, with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reports.edge_points import edge_points
from reports.figures.dots import draw_dots
from reports.figures.edges import draw_edges
from reports.figures.layers import LOWEST, draw_layers
from reports.figures.lines import ACCURACY, DEAD, LIVE, SWAPPED, draw_lines
from reports.figures.style import row_colours
from reports.rows import ReportRow
from reports.text import slug

_SEEDS = "the line is the mean of the seeds, the band runs from the lowest to the highest of them"

_LAYERS = (
    "Share of each layer's weights that is kept, in the order of the network, mean of the seeds. Rows that keep as "
    "many in all share a panel, unless all of them are as dense in every layer; beside a name stands the density of "
    f"all its layers. {LOWEST:g} % also stands for less. A layer without a mark has no wiring rule: it is dense."
)


@dataclass(frozen=True)
class Picture:
    """One picture of a table: its heading (shared with its neighbours), caption and file."""

    heading: str
    name: str  # the alternative text
    caption: str
    path: Path


def table_pictures(
    rows: Sequence[ReportRow],
    summary: pd.DataFrame,
    trials: pd.DataFrame,
    history: pd.DataFrame,
    layers: pd.DataFrame,
    folder: Path,
) -> list[Picture]:
    """Draw the figures that the table's results allow.

    Args:
        rows: the table's rows, at least one.
        summary: their lines of ``summarise``'s frame.
        trials: ``read_trials``'s frame.
        history: ``with_wiring``'s frame.
        layers: ``read_layers``'s frame.
        folder: where to write the PNG files.
    """
    title, looks = rows[0].table_title, row_colours(rows)

    def target(name: str) -> Path:
        return folder / f"{slug(rows[0].table)}-{name}.png"

    drawn = [
        (
            "Learning curves",
            "learning curves",
            _curves_caption(rows),
            draw_lines(ACCURACY, title, rows, history, looks, target("learning-curves")),
        ),
        (
            "Ours against published",
            "ours against published",
            "",
            draw_dots(title, rows, summary, trials, looks, target("ours-vs-published")),
        ),
        (
            "Accuracy against number of edges",
            "accuracy against number of edges",
            _edges_caption(rows),
            draw_edges(title, rows, edge_points(rows, trials), looks, target("accuracy-vs-edges")),
        ),
        (
            "Edges swapped",
            "edges swapped",
            f"Edges kept at an epoch's end that were not kept at its start: {_SEEDS}; logarithmic above 1.",
            draw_lines(SWAPPED, title, rows, history, looks, target("edges-swapped")),
        ),
        (
            "Live edges and dead nodes",
            "live edges",
            f"Share of the kept edges that the forward pass uses and that can influence the output: {_SEEDS}.",
            draw_lines(LIVE, title, rows, history, looks, target("live-edges")),
        ),
        (
            "Live edges and dead nodes",
            "dead nodes",
            f"Nodes that no longer take part in what reaches the output: {_SEEDS}; logarithmic above 1.",
            draw_lines(DEAD, title, rows, history, looks, target("dead-nodes")),
        ),
    ]
    densities = draw_layers(title, rows, layers, looks, folder, f"{slug(rows[0].table)}-density-per-layer")
    drawn += [("Density of each layer", "density of each layer", _LAYERS, path) for path in densities]
    return [Picture(heading, name, caption, path) for heading, name, caption, path in drawn if path is not None]


def _curves_caption(rows: Sequence[ReportRow]) -> str:
    text = "Test accuracy after each epoch: the line is the mean of the seeds, the band runs from worst to best seed."
    if any(row.comparable for row in rows):
        text += " The dashed line is the published mean."
    return text


def _edges_caption(rows: Sequence[ReportRow]) -> str:
    text = (
        "Test accuracy at the last epoch by the number of edges kept, mean ± standard deviation of the seeds; a line "
        "joins rows of one kind of network and one wiring rule, and marks that would hide each other stand apart."
    )
    if any(row.comparable for row in rows):
        text += " Hollow marks are published means."
    return text
