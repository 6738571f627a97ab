"""The density of each layer, in the order of the network: rows of one overall density share a panel.

Methods differ in where they keep weights rather than in how many, so a panel holds the rows of one overall density.
Those that are as dense in every layer are one line without a name; where all are, there is no panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reports.figures.labels import name_points
from reports.figures.style import PALETTE, Looks, figure, quiet_axes, row_colours, save, scale_note
from reports.reading.wiring_file import LayerCount
from reports.rows import ReportRow
from reports.sections.layers import mean_layers
from reports.text import plain, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST = 0.01  # percent; smaller densities, 0 included, are drawn there
_WIDTH = 10.0  # inches
_LABELS = 0.37  # of the width, right of the lines
_PANEL_HEIGHT = 2.1
_LINE_OF_TEXT = 0.175  # inches between two labels
_HEAD, _NAMES, _BETWEEN = 0.6, 1.2, 0.25  # inches: title, the layers' names under the last panel, two panels
_APART = 1.1  # overall densities with a larger ratio have panels of their own
_EVEN = 1.05  # densities of layers with a smaller ratio differ by rounding


@dataclass(frozen=True)
class _Line:
    row: ReportRow
    values: pd.Series[float]  # density in percent, by the layer's name
    whole: float  # density of all these layers together, percent

    @property
    def even(self) -> bool:
        """Whether all layers are as dense."""
        return float(self.values.max()) < _EVEN * float(self.values.min())


def draw_layers(
    title: str, rows: Sequence[ReportRow], layers: pd.DataFrame, looks: Looks, folder: Path, stem: str
) -> list[Path]:
    """Draw the rows' densities by layer, one picture per network; an empty list if there is nothing to draw.

    Args:
        title: the table's title.
        rows: the table's rows.
        layers: ``read_layers``'s frame.
        looks: the rows' colours and line styles.
        folder: where to write.
        stem: of the files' names.
    """
    lines = [line for row in rows if (line := _line(row, layers)) is not None]
    networks = [(names, panels) for names, members in _networks(lines) if (panels := _panels(members))]
    return [
        _draw(title, names, panels, looks, folder / f"{stem}{f'-{index + 1}' if index else ''}.png")
        for index, (names, panels) in enumerate(networks)
    ]


def layer_picture(counts: Sequence[LayerCount], path: Path, title: str = "") -> Path:
    """Draw one trial's density by layer and return the picture's path."""
    values = pd.Series({layer.name: 100 * layer.kept / layer.slots for layer in counts})
    kept, slots = sum(layer.kept for layer in counts), sum(layer.slots for layer in counts)
    height = _HEAD + _PANEL_HEIGHT + _NAMES
    with figure(_WIDTH, height) as drawn:
        axes = drawn.subplots()
        drawn.subplots_adjust(left=0.08, right=0.98, top=1 - _HEAD / height, bottom=_NAMES / height)
        axes.plot(range(len(values)), values.clip(LOWEST), color=PALETTE[0], marker="o", markersize=3, linewidth=1)
        axes.set_title(
            f"{plain(title, 90)}\n{kept:,} of {slots:,} weights kept ({share(100 * kept / slots)} %)".strip()
        )
        _dress(axes, [values])
        _name_layers(axes, list(values.index))
        return save(drawn, path)


def _line(row: ReportRow, layers: pd.DataFrame) -> _Line | None:
    means = mean_layers(row, layers)
    if means.empty:
        return None
    return _Line(row, 100 * means["density"], 100 * float(means["kept"].sum()) / float(means["slots"].sum()))


def _networks(lines: Sequence[_Line]) -> list[tuple[list[str], list[_Line]]]:
    """Return each network's layers with its rows, in their order; a row may have a rule on fewer of the layers."""
    names: list[list[str]] = []
    for line in sorted(lines, key=lambda one: -len(one.values)):
        if not any(set(line.values.index) <= set(known) for known in names):
            names.append(list(line.values.index))
    found: list[tuple[list[str], list[_Line]]] = [(known, []) for known in names]
    for line in lines:
        next(members for known, members in found if set(line.values.index) <= set(known)).append(line)
    return found


def _panels(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Return the rows by rising overall density, those within a tenth of the first together, if any is uneven."""
    panels: list[list[_Line]] = []
    for line in sorted(lines, key=lambda one: one.whole):
        if not panels or line.whole > _APART * panels[-1][0].whole:
            panels.append([])
        panels[-1].append(line)
    return [panel for panel in panels if not all(line.even for line in panel)]


def _draw(title: str, names: list[str], panels: Sequence[Sequence[_Line]], looks: Looks, path: Path) -> Path:
    heights = [max(_PANEL_HEIGHT, _LINE_OF_TEXT * (1 + sum(not line.even for line in lines))) for lines in panels]
    total = _HEAD + sum(heights) + _BETWEEN * (len(panels) - 1) + _NAMES
    with figure(_WIDTH, total) as drawn:
        top = total - _HEAD
        for lines, height in zip(panels, heights, strict=True):
            axes = drawn.add_axes((0.08, (top - height) / total, 1 - _LABELS - 0.08, height / total))
            top -= height + _BETWEEN
            even, uneven = [line for line in lines if line.even], [line for line in lines if not line.even]
            rows = [line.row for line in uneven]
            # a table of more rows than there are looks may give two of a panel the same
            seen = looks if len({looks[row.key] for row in rows}) == len(rows) else row_colours(rows)
            if even:
                _draw_even(axes, even)
            for line in uneven:
                colour, style = seen[line.row.key]
                placed = line.values.clip(LOWEST).reindex(names)  # a layer without a rule leaves a gap
                axes.plot(
                    range(len(names)), placed, color=colour, linestyle=style, linewidth=1.2, marker=".", markersize=4
                )
            _dress(axes, [line.values for line in lines])
            axes.set_xlim(-1, len(names))
            axes.set_xticks(range(len(names)), [""] * len(names))
            ends = [
                (float(names.index(line.values.index[-1])), float(line.values.clip(LOWEST).iloc[-1])) for line in uneven
            ]
            texts = [f"{share(line.whole)} %" for line in uneven]
            name_points(axes, ends, texts, rows, seen, gap=_LINE_OF_TEXT / height, faint=True)
        _name_layers(axes, names)
        note = scale_note([line.row for lines in panels for line in lines])
        drawn.axes[0].set_title(f"{plain(title, 100)}\ndensity of each layer{note}")
        return save(drawn, path)


def _draw_even(axes: Axes, lines: Sequence[_Line]) -> None:
    """Draw the rows whose layers are all as dense as one grey line that says how many they are."""
    height = float(lines[0].values.median())
    axes.axhline(height, color="0.6", linestyle=":", linewidth=1)
    rows = f"{len(lines)} row{'s' if len(lines) > 1 else ''}"
    axes.annotate(f"all layers equal: {rows}", (0, height), (0, 2), textcoords="offset points", fontsize=7, color="0.4")


def _dress(axes: Axes, values: Sequence[pd.Series[float]]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low = max(min(float(one.min()) for one in values), LOWEST)
    high = max(float(one.max()) for one in values)
    axes.set_yscale("log")
    axes.set_ylim(0.75 * min(low, 0.5 * high), 1.35 * high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=99))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("weights kept (%)", fontsize=9)
    axes.tick_params(axis="y", labelsize=8)
    quiet_axes(axes, "y")


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xlim(-1, len(names))
    axes.set_xticks(range(len(names)), [plain(name, 24) for name in names], rotation=90, fontsize=6)
