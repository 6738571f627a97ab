"""The dot plot: every seed, our mean with its 95 % interval, and the published mean with its spread."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from reports.figures.style import FAINT, INK, LABEL_LIMIT, QUIET, Looks, figure, quiet_axes, save, scale_note
from reports.rows import ReportRow
from reports.statistics import MARGIN
from reports.summary import trials_of
from reports.text import plain, plus_minus

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_ROW_HEIGHT = 0.46  # inches
_LABEL_WIDTH = 34  # characters


def draw_dots(
    title: str, rows: Sequence[ReportRow], summary: pd.DataFrame, trials: pd.DataFrame, looks: Looks, path: Path
) -> Path | None:
    """Draw a table's rows against the published numbers; None if no row has a result."""
    from matplotlib.ticker import MaxNLocator

    lines = summary.to_dict("records")
    if not any(line["n"] for line in lines):
        return None
    height = 1.5 + _ROW_HEIGHT * len(rows)
    with figure(10.0, height) as drawn:
        axes = drawn.subplots()
        drawn.subplots_adjust(left=0.27, right=0.79, top=1 - 0.42 / height, bottom=0.95 / height)
        for place, (row, line) in enumerate(zip(rows, lines, strict=True)):
            seeds = trials_of(row, trials)
            seeds = seeds[(seeds["status"] == "done") & seeds["seed"].isin(row.seeds)]
            _draw_row(axes, place, row, line, list(seeds["accuracy"]), looks[row.key][0])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=9, linespacing=1.1)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(*_limits(lines, trials[trials["table"].isin([row.table for row in rows])]))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
        axes.set_xlabel("test accuracy at the last epoch (%)")
        quiet_axes(axes, "x")
        axes.spines["left"].set_visible(False)
        drawn.text(0.012, 1 - 0.22 / height, plain(title, 80) + scale_note(rows), weight="bold", size=11, va="center")
        comparable = any(row.comparable for row in rows)
        _legend(axes, height, margin=comparable, other=comparable and any(row.other_recipe for row in rows))
        return save(drawn, path)


def _draw_row(
    axes: Axes, place: int, row: ReportRow, line: Mapping[Any, Any], seeds: Sequence[float], colour: str
) -> None:
    published = line["published_mean"]
    if pd.notna(published):
        ink = QUIET if row.comparable else FAINT
        if row.comparable:
            axes.barh(place, 2 * MARGIN, left=published - MARGIN, height=0.62, color="#ececec", zorder=1)
        spread = line["published_std"]
        if pd.notna(spread):
            axes.hlines(place - 0.2, published - spread, published + spread, color=ink, linewidth=1.2, zorder=2)
        axes.plot(published, place - 0.2, "D", color="white", markeredgecolor=ink, markersize=5.5, zorder=3)
    axes.plot(seeds, [place + 0.2] * len(seeds), "|", color=colour, markersize=6, alpha=0.9, zorder=3)
    if pd.notna(line["mean"]):
        if pd.notna(line["ci_low"]):
            axes.hlines(
                place + 0.02, max(line["ci_low"], 0), min(line["ci_high"], 100), color=colour, linewidth=2, zorder=3
            )
        axes.plot(line["mean"], place + 0.02, "o", color=colour, markersize=6.5, zorder=4)
    ours = plus_minus(line["mean"], line["std"]) + f"  (n={line['n']})" if line["n"] else ""
    # one line of numbers right of the axes, the verdict under it; the title says that it is not a reproduction
    verdict = str(line["verdict"]).replace(": no reproduction)", ")")
    axes.annotate(
        f"{ours}\n{verdict}" if ours else verdict.replace(": ", ":\n", 1),  # the reason has a line of its own
        xy=(1.015, place),
        xycoords=("axes fraction", "data"),
        fontsize=8,
        color=INK if ours else QUIET,
        va="center",
        linespacing=1.25,
        annotation_clip=False,
    )


def _label(row: ReportRow) -> str:
    """Return the label on at most two lines; extra rows and variants are marked as such."""
    mark = " (variant)" if row.variant else " (extra)" if row.extra else ""
    return "\n".join(textwrap.wrap(plain(row.label, LABEL_LIMIT) + mark, _LABEL_WIDTH, max_lines=2))


def _limits(lines: Sequence[Mapping[Any, Any]], trials: pd.DataFrame) -> tuple[float, float]:
    """Return the axis: all seeds and published spreads; of the intervals no more than once that range again.

    Two seeds give intervals of up to 12.7 standard errors; shown in full they would flatten all else.
    """
    counted = (trials["status"] == "done") & trials["planned"]
    values = [float(value) for value in trials.loc[counted, "accuracy"] if pd.notna(value)]
    for line in lines:
        for name in ("mean", "published_mean"):
            if pd.notna(line[name]):
                spread = line["published_std"] if name == "published_mean" and pd.notna(line["published_std"]) else 0
                margin = max(spread, MARGIN) if name == "published_mean" else 0
                values += [line[name] - margin, line[name] + margin]
    low, high = min(values), max(values)
    room = max(high - low, 2.0)
    ends = [end for line in lines for end in (line["ci_low"], line["ci_high"]) if pd.notna(end)]
    low = min([low, *(max(end, low - 0.5 * room) for end in ends)])
    high = max([high, *(min(end, high + 0.5 * room) for end in ends)])
    edge = 0.04 * max(high - low, 1.0)
    return max(low - edge, -1.0), min(high + edge, 101.0)


def _legend(axes: Axes, height: float, *, margin: bool, other: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Artist] = [
        Line2D([], [], color=INK, marker="o", markersize=6.5, linewidth=2, label="ours: mean, 95 % interval"),
        Line2D([], [], color=INK, marker="|", linestyle="", markersize=7, label="one seed"),
        Line2D(
            [],
            [],
            color=QUIET if margin else FAINT,
            marker="D",
            markerfacecolor="white",
            linewidth=1.2,
            label="published: mean ± std" if margin else "published: not comparable with these",
        ),
    ]
    if margin:
        marks.append(Patch(color="#ececec", label=f"within {MARGIN:g} point of it"))
    if other:
        marks.append(
            Line2D(
                [], [], color=FAINT, marker="D", markerfacecolor="white", linestyle="", label="published, other recipe"
            )
        )
    axes.figure.legend(
        handles=marks,
        loc="lower center",
        ncols=len(marks),
        frameon=False,
        fontsize=8.5,
        bbox_to_anchor=(0.5, 0.02 / height),
    )
