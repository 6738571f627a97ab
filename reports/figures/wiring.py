"""The wiring found, as an adjacency picture: receiving nodes down, sending nodes across, a dot an edge.

Every slot of the matrix is drawn as a whole number of pixels, so that 32,000 edges stay crisp; a matrix larger
than its picture is binned (``raster``). Of many matrices the density of each is drawn instead (``layers``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.image import FigureImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from reports.figures.layers import layer_picture
from reports.figures.raster import DEAD, LIVE, Raster, pixels_of, raster_of
from reports.figures.style import QUIET, figure, save
from reports.text import plain
from reports.wiring_file import MOST_PICTURED, Graph, read_counts, read_wiring

_DPI = 200
_PIXELS = {1: 1600, 2: 800, 3: 768, 4: 520}  # of the longer side of a matrix, by the number of matrices in a line
_BORDER = (124, 60, 40, 112)  # pixels round each matrix: left, top, right, bottom
_HEAD = 110  # pixels
_NOTE = 34  # pixels of a second line under a binned matrix
_NARROWEST = 520
_TICK_ROOM = 90  # pixels a tick label needs


class _Pixels(FigureImage):
    """An image that is copied onto the canvas as it is; matplotlib would resample it to the same pixels, slowly."""

    def __init__(self, drawn: Figure, pixels: np.ndarray[Any, np.dtype[np.uint8]], x: int, y: int) -> None:
        super().__init__(drawn, offsetx=x, offsety=y, origin="upper")
        self.set_data(pixels[:1, :1])  # some must be set; all of them would be looked through for NaN
        self.set_zorder(0.5)  # over the half of the frame's lines that lies within
        self._pixels = pixels

    def make_image(
        self, renderer: RendererBase, magnification: float = 1.0, unsampled: bool = False
    ) -> tuple[np.ndarray[Any, Any], float, float, Affine2D]:
        """Return the pixels, bottom line first, and where they go."""
        return self._pixels[::-1], self.ox, self.oy, Affine2D()

    def let_go(self) -> None:
        """Give the pixels' memory back: the artist itself stays until the garbage collector comes."""
        self._pixels = self._pixels[:1, :1].copy()


def wiring_picture(npz_path: Path, out_png: Path, *, title: str = "") -> Path:
    """Draw the edges of every graph in ``wiring.npz``, or of many graphs how dense each is; return the picture's path.

    A network without a graph gets a small picture that says so: whoever shows a trial's files may rely on one.

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
    across = 1 if len(graphs) == 1 else 2 if len(graphs) <= 4 else 3 if len(graphs) <= 9 else 4
    down = -(-len(graphs) // across)
    left, top, right, bottom = _BORDER
    rasters = [raster_of(graph.shape, _PIXELS[across]) for graph in graphs]
    bottom += _NOTE if any(raster.slots > 1 for raster in rasters) else 0
    cell_width = max(*(raster.wide for raster in rasters), _NARROWEST) + left + right
    cell_height = max(raster.tall for raster in rasters) + top + bottom
    wide, tall = cell_width * across, cell_height * down + _HEAD
    width, height = wide / _DPI, tall / _DPI
    images: list[_Pixels] = []
    with figure(width, height, dpi=_DPI) as drawn:
        drawn.text(0.12 / width, 1 - 0.24 / height, plain(title, 70), weight="bold", size=11, va="center")
        drawn.text(0.12 / width, 1 - 0.49 / height, _totals(graphs), size=9, va="center", color=QUIET)
        for index, (graph, raster) in enumerate(zip(graphs, rasters, strict=True)):
            x = index % across * cell_width + left
            y = tall - _HEAD - index // across * cell_height - top - raster.tall
            # the pixels go straight onto the canvas, the axes stand round them: nothing is resampled
            images.append(_Pixels(drawn, pixels_of(graph, raster), x, y))
            drawn.add_artist(images[-1])
            axes = drawn.add_axes((x / wide, y / tall, raster.wide / wide, raster.tall / tall), facecolor="none")
            _frame(axes, graph, raster, named=len(graphs) > 1)
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
        written = save(drawn, out_png)
    for image in images:
        image.let_go()
    return written


def _frame(axes: Axes, graph: Graph, raster: Raster, *, named: bool) -> None:
    axes.set_xlim(-0.5, graph.shape[1] - 0.5)
    axes.set_ylim(graph.shape[0] - 0.5, -0.5)  # node 0 at the top, as in a matrix
    note = f"\n{raster.slots}x{raster.slots} slots a pixel: the fuller, the darker" if raster.slots > 1 else ""
    axes.set_xlabel("sending node" + note, fontsize=9)
    axes.set_ylabel("receiving node", fontsize=9)
    axes.tick_params(labelsize=8, length=3)
    for axis, length in ((axes.xaxis, raster.wide), (axes.yaxis, raster.tall)):
        ticks = min(8, max(1, length // _TICK_ROOM))
        axis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10], integer=True))
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
    if named:
        axes.set_title(f"{plain(graph.name, 24)}: {len(graph.live):,} edges", fontsize=9)


def _totals(graphs: list[Graph]) -> str:
    edges = sum(len(graph.live) for graph in graphs)
    live = sum(int(graph.live.sum()) for graph in graphs)
    # rounded down: 31,999 of 32,000 is not 100 %
    share = f" ({live * 10_000 // edges / 100:.2f} %)" if edges else ""
    return f"{edges:,} edges: {live:,} live{share}, {edges - live:,} dead"
