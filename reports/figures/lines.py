"""Lines by epoch, one per row, named at their ends: learning curves and the wiring's figures.

Published rows are above extra ones and variants. A line is the mean of the row's planned seeds, the band runs
from the lowest to the highest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports.epochs import by_epoch
from reports.figures.labels import name_points
from reports.figures.style import LineStyle, Looks, figure, quiet_axes, save, scale_note
from reports.rows import ReportRow
from reports.text import count_of, number, plain, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 10.0  # inches
_PANEL_HEIGHT = 4.1
_LABELS = 0.37  # of the width, right of the lines
_LINE_OF_TEXT = 0.175  # inches between two labels

Lines = Mapping[tuple[str, str, str], pd.DataFrame]


@dataclass(frozen=True)
class Measure:
    """What is drawn: a column of the history, its axis, and how a value is written at a line's end."""

    column: str
    axis: str  # with the unit
    text: Callable[[float], str]
    name: str = ""  # beside the table's title; none for the learning curves
    prepare: Callable[[Axes, float], None] | None = None  # given the axes and the highest value; sets scale and limits
    reference: Callable[[ReportRow], float | None] = lambda row: None  # a dashed line in the row's colour


def draw_lines(
    measure: Measure, title: str, rows: Sequence[ReportRow], history: pd.DataFrame, looks: Looks, path: Path
) -> Path | None:
    """Draw a table's rows by epoch; None if no row has a value.

    Args:
        measure: what to draw.
        title: the table's title.
        rows: the table's rows.
        history: a frame with the measure's column (``epochs.with_wiring``).
        looks: the rows' colours and line styles.
        path: where to write the PNG.
    """
    from matplotlib.ticker import MaxNLocator

    lines = {row.key: by_epoch(row, history, measure.column) for row in rows}
    panels = panels_of(rows, lines)
    if not panels:
        return None
    heights = [max(_PANEL_HEIGHT, 1.2 + _LINE_OF_TEXT * len(members)) for _, members in panels]
    with figure(_WIDTH, sum(heights)) as drawn:
        grid = drawn.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True, height_ratios=heights)
        margins = {"left": 0.1, "right": 1 - _LABELS, "top": 1 - 0.65 / sum(heights), "bottom": 0.5 / sum(heights)}
        drawn.subplots_adjust(hspace=0.3, **margins)
        for axes, (name, members) in zip(grid[:, 0], panels, strict=True):
            for row in members:
                _draw_row(axes, measure, row, lines[row.key], looks[row.key])
            axes.set_title(f"{plain(title, 100)}\n{_heading(measure, name)}{scale_note(members)}")
            axes.set_ylabel(measure.axis)
            axes.tick_params(labelbottom=True)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
            axes.margins(x=0.02)
            quiet_axes(axes, "y")
        grid[-1, 0].set_xlabel("epochs trained")
        if all(len(line) <= 1 for line in lines.values()):  # an axis round one epoch would be cut into hundredths
            grid[0, 0].set_xlim(0.5, max(float(line.index.max()) for line in lines.values() if len(line)) + 0.5)
        if measure.prepare is not None:  # the panels share their axes
            measure.prepare(grid[0, 0], max(float(line["max"].max()) for line in lines.values() if len(line)))
        for (axes, (_, members)), height in zip(zip(grid[:, 0], panels, strict=True), heights, strict=True):
            ends = [(float(lines[row.key].index[-1]), float(lines[row.key]["mean"].iloc[-1])) for row in members]
            name_points(
                axes,
                ends,
                [measure.text(value) for _, value in ends],
                members,
                looks,
                gap=_LINE_OF_TEXT / (0.75 * height),  # the axes take about three quarters of their panel
            )
        return save(drawn, path)


def panels_of(rows: Sequence[ReportRow], lines: Lines) -> list[tuple[str, list[ReportRow]]]:
    """Return the panels with their rows: published, then extra rows and variants, only those that have a line."""
    drawn = [row for row in rows if len(lines[row.key])]
    published = [row for row in drawn if not row.extra and not row.variant]
    extra = [row for row in drawn if row.extra or row.variant]
    return [panel for panel in (("published rows", published), ("extra rows", extra)) if panel[1]]


def _heading(measure: Measure, panel: str) -> str:
    return f"{measure.name} · {panel}" if measure.name else panel


def _draw_row(axes: Axes, measure: Measure, row: ReportRow, line: pd.DataFrame, look: tuple[str, LineStyle]) -> None:
    colour, style = look
    epochs = line.index.to_numpy(dtype=float)
    low, mean, high = (line[name].to_numpy(dtype=float) for name in ("min", "mean", "max"))
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    # few points: mark each, or a single epoch would be invisible
    marker = "o" if len(epochs) <= 12 else ""
    axes.plot(epochs, mean, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=3.5)
    reference = measure.reference(row)
    if reference is not None:
        axes.axhline(reference, color=colour, linestyle=(0, (4, 4)), linewidth=0.9, alpha=0.8)


def count_scale(axes: Axes, highest: float) -> None:
    """Show 0 and 50,000 on one axis: logarithmic from 1 on, linear below, 0 a little above the edge."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_ylim(-0.3, max(2.0 * highest, 10.0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def share_scale(axes: Axes, highest: float) -> None:
    """Show 100 % at the top and at least one percent below it."""
    low = min(axes.get_ylim()[0], 99.0)
    axes.set_ylim(max(low, -2.0), 100 + 0.03 * (100 - low))


# published means at paper scale only: elsewhere they would invite a comparison that means nothing
ACCURACY = Measure(
    "test_accuracy",
    "test accuracy (%)",
    number,
    reference=lambda row: row.published_mean if row.comparable else None,
)
SWAPPED = Measure("edges_swapped", "edges swapped in the epoch", count_of, "edges swapped", count_scale)
LIVE = Measure("live_share", "live edges (% of the kept)", share, "live edges", share_scale)
DEAD = Measure("dead_nodes", "dead nodes", count_of, "dead nodes", count_scale)
