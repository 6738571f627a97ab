"""Labels right of the axes, spread apart so that no two overlap, each joined to its point by a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.figures.style import LABEL_LIMIT, Looks, spread_apart
from reports.rows import ReportRow
from reports.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def name_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    values: Sequence[str],
    rows: Sequence[ReportRow],
    looks: Looks,
    *,
    gap: float,
    faint: bool = False,
) -> None:
    """Write each row's value and label right of the axes and draw a line to its point, in the row's look.

    Args:
        axes: with their final scales and limits.
        points: a point a row, in data coordinates.
        values: the text before a row's label.
        rows: the rows.
        looks: their colours and line styles.
        gap: the least distance of two labels, as a fraction of the axes' height.
        faint: thin ties, for points all over the axes rather than at their right edge.
    """
    # in shares of the axes: names keep their distance on any scale
    shares = axes.transAxes.inverted().transform(axes.transData.transform(points))
    places = spread_apart([float(y) for _, y in shares], gap, 0.0, 1.0)
    for row, point, value, place in zip(rows, points, values, places, strict=True):
        colour, style = looks[row.key]
        axes.annotate(
            f"{value}  {plain(row.label, LABEL_LIMIT)}",
            xy=point,
            xytext=(1.05, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7 if faint else 1.3,
                "alpha": 0.55 if faint else 1.0,
                "linestyle": style,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 4 if faint else 2,
                "zorder": 1,
            },
        )
