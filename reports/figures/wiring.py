"""The wiring found, as an adjacency matrix: receiving nodes down, sending nodes across, a dot per edge.

Every slot of the matrix is drawn as a whole number of pixels, so that 32,000 edges stay crisp; a matrix larger
than its picture is binned (``raster``). Of many matrices the density of each is drawn instead (``layers``).

What surrounds the matrices is the same for all seeds of a row and for most rows of a table. It is drawn once
(``_frame``) and copied; the pixels go straight onto the copy: nothing is resampled.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reports.figures.layers import layer_picture
from reports.figures.raster import DEAD, LIVE, Raster, pixels_of, raster_of
from reports.figures.style import QUIET, Pixels, canvas_pixels, figure, save, write_png
from reports.reading.wiring_file import MOST_PICTURED, Graph, read_counts, read_wiring
from reports.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 200
_PIXELS = {1: 1600, 2: 800, 3: 768, 4: 520}  # of the longer side of a matrix, by the number of matrices in a line
_BORDER = (124, 60, 40, 112)  # pixels round each matrix: left, top, right, bottom
_HEAD = 110  # pixels
_NOTE = 34  # pixels of a second line under a binned matrix
_NARROWEST = 520
_TICK_ROOM = 90  # pixels a tick label needs


def wiring_picture(npz_path: Path, out_png: Path, *, title: str = "") -> Path:
    """Draw the edges of every graph in ``wiring.npz``, or the densities of many graphs; return the picture's path.

    A network without a graph gets a small picture that says so: every trial has one.

    Raises:
        ValueError: if the file cannot be read, is damaged or does not fit the layout.
        OSError: if the picture cannot be written.
    """
    counts = read_counts(npz_path)
    if len(counts) > MOST_PICTURED:
        return layer_picture(counts, out_png, title)
    graphs = read_wiring(npz_path)
    if not graphs:
        with figure(6.0, 0.9, dpi=_DPI) as drawn:
            drawn.text(0.02, 0.7, plain(title, 60), weight="bold", size=11, va="center")
            drawn.text(0.02, 0.3, "this network has no graph", size=9, va="center", color=QUIET)
            return save(drawn, out_png)
    cells = tuple(_cells(graphs))
    sheet = _frame(cells).copy()
    # the words are dark on white, and so are the marks beside them
    sheet[:_HEAD] = np.minimum(sheet[:_HEAD], _words(plain(title, 70), _totals(graphs), cells[0].sheet[0]))
    for cell, graph in zip(cells, graphs, strict=True):
        raster = cell.raster
        sheet[cell.top : cell.top + raster.tall, cell.left : cell.left + raster.wide] = pixels_of(graph, raster)
    return write_png(sheet, out_png, _DPI)


class _Cell(NamedTuple):
    """One matrix on the sheet: where its pixels begin, what else the sheet's size and frame depend on."""

    raster: Raster
    shape: tuple[int, int]
    left: int  # pixels from the sheet's upper left corner
    top: int
    sheet: tuple[int, int]  # pixels: width, height
    title: str = ""


def _cells(graphs: Sequence[Graph]) -> list[_Cell]:
    across = 1 if len(graphs) == 1 else 2 if len(graphs) <= 4 else 3 if len(graphs) <= 9 else 4
    down = -(-len(graphs) // across)
    left, top, right, bottom = _BORDER
    rasters = [raster_of(graph.shape, _PIXELS[across]) for graph in graphs]
    bottom += _NOTE if any(raster.slots > 1 for raster in rasters) else 0
    wide = max(*(raster.wide for raster in rasters), _NARROWEST) + left + right
    tall = max(raster.tall for raster in rasters) + top + bottom
    return [
        _Cell(
            raster,
            graph.shape,
            left=index % across * wide + left,
            top=_HEAD + index // across * tall + top,
            sheet=(wide * across, tall * down + _HEAD),
            title=f"{plain(graph.name, 24)}: {len(graph.live):,} edges" if len(graphs) > 1 else "",
        )
        for index, (graph, raster) in enumerate(zip(graphs, rasters, strict=True))
    ]


@functools.lru_cache(maxsize=2)  # 10 to 20 MB each
def _frame(cells: tuple[_Cell, ...]) -> Pixels:
    """Return a sheet with all but the edges and the words at its top. It is shared: do not draw on it."""
    from matplotlib.lines import Line2D

    wide, tall = cells[0].sheet
    width, height = wide / _DPI, tall / _DPI
    with figure(width, height, dpi=_DPI) as drawn:
        for cell in cells:
            raster = cell.raster
            below = tall - cell.top - raster.tall
            axes = drawn.add_axes((cell.left / wide, below / tall, raster.wide / wide, raster.tall / tall))
            _dress(axes, cell)
        marks = [
            Line2D([], [], color=colour, marker="s", linestyle="", markersize=6, label=name)
            for name, colour in (("live edge", LIVE), ("dead edge", DEAD))
        ]
        drawn.legend(
            handles=marks,
            loc="upper right",
            borderaxespad=0,
            bbox_to_anchor=(1 - 0.1 / width, 1 - 0.34 / height),
            ncols=2,
            frameon=False,
            fontsize=8.5,
            handletextpad=0.1,
            columnspacing=0.9,
        )
        return canvas_pixels(drawn)


def _words(title: str, totals: str, wide: int) -> Pixels:
    """Return the top of a sheet with nothing but its words."""
    width, height = wide / _DPI, _HEAD / _DPI
    with figure(width, height, dpi=_DPI) as drawn:
        drawn.text(0.12 / width, 1 - 0.24 / height, title, weight="bold", size=11, va="center")
        drawn.text(0.12 / width, 1 - 0.49 / height, totals, size=9, va="center", color=QUIET)
        return canvas_pixels(drawn)


def _dress(axes: Axes, cell: _Cell) -> None:
    from matplotlib.ticker import MaxNLocator

    raster = cell.raster
    axes.set_xlim(-0.5, cell.shape[1] - 0.5)
    axes.set_ylim(cell.shape[0] - 0.5, -0.5)  # node 0 at the top, as in a matrix
    note = f"\n{raster.slots}x{raster.slots} slots per pixel: the fuller, the darker" if raster.slots > 1 else ""
    axes.set_xlabel("sending node" + note, fontsize=9)
    axes.set_ylabel("receiving node", fontsize=9)
    axes.tick_params(labelsize=8, length=3)
    for axis, length in ((axes.xaxis, raster.wide), (axes.yaxis, raster.tall)):
        ticks = min(8, max(1, length // _TICK_ROOM))
        axis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10], integer=True))
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
    if cell.title:
        axes.set_title(cell.title, fontsize=9)


def _totals(graphs: Sequence[Graph]) -> str:
    edges = sum(len(graph.live) for graph in graphs)
    live = sum(int(graph.live.sum()) for graph in graphs)
    # rounded down: 31,999 of 32,000 is not 100 %
    share = f" ({live * 10_000 // edges / 100:.2f} %)" if edges else ""
    return f"{edges:,} edges: {live:,} live{share}, {edges - live:,} dead"
