"""Accuracy against the number of edges kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reports.figures.labels import name_points
from reports.figures.style import INK, LINE_STYLES, Looks, figure, quiet_axes, save, scale_note
from reports.rows import ReportRow
from reports.text import count, plain, plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_WIDTH = 10.0  # inches
_LABELS = 0.39  # of the width, right of the points
_LINE_OF_TEXT = 0.175  # inches between two labels
_STEP = 0.012  # of the axis' width, between marks that would overlap
_MARK = 0.016  # half a mark, of the axis' height
_LEGEND_COLUMNS = 3
# a row's line style becomes a mark's shape
_MARKERS = dict(zip(LINE_STYLES, ("o", "s", "^", "v"), strict=True))


def draw_edges(title: str, rows: Sequence[ReportRow], points: pd.DataFrame, looks: Looks, path: Path) -> Path | None:
    """Draw ``edge_points``'s frame; None unless two rows differ in their number of edges."""
    if points["edges"].nunique() < 2:
        return None
    members = [rows[place] for place in points["place"]]
    height = max(4.6, 1.6 + _LINE_OF_TEXT * len(points))
    legend = _legend(points, members, looks)
    below = 0.75 + 0.2 * -(-len(legend) // _LEGEND_COLUMNS)
    with figure(_WIDTH, height) as drawn:
        axes = drawn.subplots()
        inner = height - 0.6 - below
        drawn.subplots_adjust(left=0.07, right=1 - _LABELS, top=1 - 0.6 / height, bottom=below / height)
        low, high = np.log10(points["edges"].min()), np.log10(points["edges"].max())
        span = 1.16 * (high - low)
        places = 10 ** (np.log10(points["edges"].to_numpy(dtype=float)) + _STEP * span * lanes(points))
        axes.set_xscale("log")
        axes.set_xlim(10 ** (low - 0.08 * (high - low)), 10 ** (high + 0.08 * (high - low)))
        _draw_lines(axes, points, places, members, looks)
        for place, row, point in zip(places, members, points.to_dict("records"), strict=True):
            _draw_point(axes, float(place), point, looks[row.key])
        axes.set_title(f"{plain(title, 100)}\naccuracy against number of edges{scale_note(members)}")
        axes.set_xlabel("edges kept")
        axes.set_ylabel("test accuracy at the last epoch (%)")
        _ticks(axes)
        quiet_axes(axes, "y")
        axes.autoscale_view(scalex=False)
        values = [plus_minus(point["mean"], point["std"]) for point in points.to_dict("records")]
        marks = list(zip([float(place) for place in places], points["mean"].tolist(), strict=True))
        name_points(axes, marks, values, members, looks, gap=_LINE_OF_TEXT / inner, faint=True)
        drawn.legend(
            handles=legend,
            loc="lower left",
            ncols=_LEGEND_COLUMNS,
            frameon=False,
            fontsize=8.5,
            bbox_to_anchor=(0.06, 0.02 / height),
        )
        return save(drawn, path)


def lanes(points: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return for each point how many steps aside it is drawn, so that no mark hides another with as many edges.

    0 wherever there is room, then -1, 1, -2, ... Points count as having as many edges when they differ by less than
    2 %. What a point takes up is its mark, its standard deviation and its published mean.
    """
    means, published = points["mean"].to_numpy(dtype=float), points["published"].to_numpy(dtype=float)
    room = np.fmax(points["std"].to_numpy(dtype=float), _MARK * max(float(np.ptp(means)), 1.0))
    low, high = np.fmin(means - room, published), np.fmax(means + room, published)
    near = np.log(points["edges"].to_numpy(dtype=float))
    chosen = np.zeros(len(points), np.int64)
    for point in range(len(points)):
        others = [
            other
            for other in range(point)
            if abs(near[other] - near[point]) < 0.02 and low[other] < high[point] and low[point] < high[other]
        ]
        taken = {int(chosen[other]) for other in others}
        chosen[point] = next(lane for lane in _outwards(len(points)) if lane not in taken)
    return chosen


def _outwards(most: int) -> list[int]:
    return sorted(range(-most, most + 1), key=lambda lane: (abs(lane), lane))


def _lines(points: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the points of each line by rising number of edges."""
    numbered = points.reset_index(drop=True).dropna(subset="line")
    return [line.sort_values("edges") for _, line in numbered.groupby("line")]


def _colour(line: pd.DataFrame, members: Sequence[ReportRow], looks: Looks) -> str:
    """Return the colour of the line's first row in the table: a published one where there is one."""
    return looks[members[int(line.index.min())].key][0]


def _draw_lines(
    axes: Axes, points: pd.DataFrame, places: np.ndarray[Any, Any], members: Sequence[ReportRow], looks: Looks
) -> None:
    for line in _lines(points):
        axes.plot(
            places[line.index], line["mean"], color=_colour(line, members, looks), linewidth=1.3, alpha=0.7, zorder=2
        )


def _draw_point(axes: Axes, place: float, point: dict[Any, Any], look: tuple[str, Any]) -> None:
    colour, style = look
    marker = _MARKERS[style]
    if pd.notna(point["published"]):
        axes.plot(place, point["published"], marker="D", color="white", markeredgecolor=colour, markersize=6, zorder=3)
    if pd.notna(point["std"]):
        axes.errorbar(place, point["mean"], yerr=point["std"], color=colour, linewidth=1.3, capsize=2.5, zorder=3)
    axes.plot(place, point["mean"], marker=marker, color=colour, markersize=5.5, zorder=4)


def _ticks(axes: Axes) -> None:
    """Label round numbers of edges: every decade's 1, 2 and 5, or, on a narrow axis, numbers between them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    for subs in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [tick for tick in LogLocator(subs=subs, numticks=99).tick_values(low, high) if low <= tick <= high]
        if len(ticks) >= 4:
            break
    if len(ticks) < 2:  # less than a third between lowest and highest
        ticks = list(np.geomspace(low, high, 5)[1:-1])
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)


def _legend(points: pd.DataFrame, members: Sequence[ReportRow], looks: Looks) -> list[Line2D]:
    from matplotlib.lines import Line2D

    bar = Line2D([], [], color=INK, marker="o", linestyle="", markersize=5.5, label="ours: mean ± std over seeds")
    marks = [bar]
    if points["published"].notna().any():
        hollow = Line2D([], [], color=INK, marker="D", markerfacecolor="white", linestyle="", markersize=6)
        hollow.set_label("published mean")
        marks.append(hollow)
    for line in _lines(points):
        name = plain(f"{line['network_kind'].iloc[0]}, {line['wiring_rule'].iloc[0]}", 40)
        marks.append(Line2D([], [], color=_colour(line, members, looks), linewidth=1.3, alpha=0.7, label=name))
    return marks
