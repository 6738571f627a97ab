"""Learning curves: test accuracy by epoch, a line for the seeds' mean and a band from worst to best seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports.figures.style import LABEL_LIMIT, LineStyle, figure, quiet_axes, save, spread_apart
from reports.rows import ReportRow
from reports.text import plain
from reports.verdicts import PAPER_SCALE

_WIDTH = 10.0  # inches
_PANEL_HEIGHT = 4.1
_LABELS = 0.33  # of the width, right of the curves
_LINE_OF_TEXT = 0.175  # inches between two labels

Looks = Mapping[tuple[str, str, str], tuple[str, LineStyle]]


def draw_curves(title: str, rows: Sequence[ReportRow], history: pd.DataFrame, looks: Looks, path: Path) -> Path | None:
    """Draw a table's learning curves, published rows above extra ones and variants; None if there are none.

    The published means stand as dashed lines at paper scale only: elsewhere they would invite a comparison
    that means nothing.
    """
    curves = {row.key: _by_epoch(row, history) for row in rows}
    panels = [
        (name, members)
        for name, members in (
            ("published rows", [row for row in rows if not _apart(row) and len(curves[row.key])]),
            ("extra rows", [row for row in rows if _apart(row) and len(curves[row.key])]),
        )
        if members
    ]
    if not panels:
        return None
    heights = [max(_PANEL_HEIGHT, 1.2 + _LINE_OF_TEXT * len(members)) for _, members in panels]
    with figure(_WIDTH, sum(heights)) as drawn:
        grid = drawn.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True, height_ratios=heights)
        margins = {"left": 0.07, "right": 1 - _LABELS, "top": 1 - 0.65 / sum(heights), "bottom": 0.5 / sum(heights)}
        drawn.subplots_adjust(hspace=0.3, **margins)
        for axes, (name, members) in zip(grid[:, 0], panels, strict=True):
            for row in members:
                _draw_row(axes, row, curves[row.key], looks[row.key])
            axes.set_title(_title(title, name, members))
            axes.set_ylabel("test accuracy (%)")
            axes.tick_params(labelbottom=True)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True))
            axes.margins(x=0.02)
            quiet_axes(axes, "y")
        grid[-1, 0].set_xlabel("epochs trained")
        for (axes, (_, members)), height in zip(zip(grid[:, 0], panels, strict=True), heights, strict=True):
            _label(axes, members, curves, looks, panel_inches=height)
        return save(drawn, path)


def _apart(row: ReportRow) -> bool:
    return row.extra or row.variant


def _title(title: str, name: str, rows: Sequence[ReportRow]) -> str:
    scales = ", ".join(sorted({row.scale for row in rows if row.scale != PAPER_SCALE}))
    return f"{plain(title, 100)}\n{name}" + (f" · {plain(scales)} scale: no reproduction" if scales else "")


def _by_epoch(row: ReportRow, history: pd.DataFrame) -> pd.DataFrame:
    """Return mean, lowest and highest test accuracy of the planned seeds per epoch trained (from 1)."""
    table, name, mark = row.key
    mine = history[(history["table"] == table) & (history["row"] == name) & (history["fingerprint"] == mark)]
    mine = mine[mine["seed"].isin(row.seeds)].dropna(subset=["epoch", "test_accuracy"])
    grouped = mine.groupby("epoch")["test_accuracy"].agg(["mean", "min", "max"]).sort_index()
    grouped.index = grouped.index + 1
    return grouped


def _draw_row(axes: Axes, row: ReportRow, curve: pd.DataFrame, look: tuple[str, LineStyle]) -> None:
    colour, style = look
    epochs = curve.index.to_numpy(dtype=float)
    low, mean, high = (curve[name].to_numpy(dtype=float) for name in ("min", "mean", "max"))
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    # few points: mark each, or a single epoch would be invisible
    marker = "o" if len(epochs) <= 12 else ""
    axes.plot(epochs, mean, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=3.5)
    if row.published_mean is not None and row.comparable:  # paper scale only
        axes.axhline(row.published_mean, color=colour, linestyle=(0, (4, 4)), linewidth=0.9, alpha=0.8)


def _label(
    axes: Axes,
    rows: Sequence[ReportRow],
    curves: Mapping[tuple[str, str, str], pd.DataFrame],
    looks: Looks,
    panel_inches: float,
) -> None:
    """Name each line at its right end, pushed apart so that no two names overlap, tied to it in its colour."""
    low, high = axes.get_ylim()
    last = [float(curves[row.key]["mean"].iloc[-1]) for row in rows]
    inches = panel_inches * 0.75  # of the axes themselves
    places = spread_apart(last, _LINE_OF_TEXT / inches * (high - low), low, high)
    left, right = axes.get_xlim()
    for row, value, place in zip(rows, last, places, strict=True):
        colour, style = looks[row.key]
        end = float(curves[row.key].index[-1])
        axes.annotate(
            f"{value:.1f}  {plain(row.label, LABEL_LIMIT)}",
            xy=(end, value),
            xytext=(right + 0.05 * (right - left), place),
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 1.3,
                "linestyle": style,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 2,
            },
        )
