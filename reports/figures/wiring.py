"""The wiring found, as an adjacency picture: receiving nodes down, sending nodes across, a dot an edge.

Every slot of the matrix is drawn as a whole number of pixels, so that 32,000 edges stay crisp; a matrix larger
than the picture is binned (a pixel shows whether any of its slots holds an edge, a dead one first).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.figures.style import QUIET, figure, save
from reports.text import plain

LIVE = "#0072B2"
DEAD = "#D55E00"
_DPI = 200
_PIXELS = 1600  # of the longer side of a picture's matrix
_MOST_GRAPHS = 9  # in one picture
_LARGEST_ARCHIVE = 1 << 30  # bytes unpacked
_BORDER = (124, 60, 40, 112)  # pixels round each matrix: left, top, right, bottom
_HEAD = 110  # pixels
_NARROWEST = 520
_TICK_ROOM = 90  # pixels a tick label needs


@dataclass(frozen=True)
class Graph:
    """The kept edges of one graph: receiving and sending node of each, and whether it is live."""

    name: str
    rows: np.ndarray[Any, np.dtype[np.int64]]
    columns: np.ndarray[Any, np.dtype[np.int64]]
    live: np.ndarray[Any, np.dtype[np.bool_]]
    shape: tuple[int, int]


def read_wiring(path: Path) -> list[Graph]:
    """Read ``wiring.npz``, without ever unpickling.

    Raises:
        ValueError: if it is damaged, too large, or does not hold what the results folder's layout promises.
        OSError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_ARCHIVE:
                raise ValueError(f"{path.name}: larger than {_LARGEST_ARCHIVE >> 20} MiB unpacked")
        with np.load(path, allow_pickle=False) as arrays:
            names = [key.removesuffix(".shape") for key in arrays.files if key.endswith(".shape")]
            graphs = [_graph(name, arrays, path) for name in names]
    except (KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name}: not a wiring file ({error})") from None
    if not graphs:
        raise ValueError(f"{path.name}: holds no graph")
    return graphs


def wiring_picture(npz_path: Path, out_png: Path, *, title: str = "") -> Path:
    """Draw the edges of every graph in ``wiring.npz`` and return the picture's path.

    Raises:
        ValueError: if the file is damaged or does not fit the layout.
        OSError: if it cannot be read or the picture cannot be written.
    """
    graphs = read_wiring(npz_path)
    shown = graphs[:_MOST_GRAPHS]
    across = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
    down = -(-len(shown) // across)
    pixels = _PIXELS // across
    left, top, right, bottom = _BORDER
    rasters = [_raster(graph.shape, pixels) for graph in shown]
    cell_width = max(*(raster.wide for raster in rasters), _NARROWEST) + left + right
    cell_height = max(raster.tall for raster in rasters) + top + bottom
    wide, tall = cell_width * across, cell_height * down + _HEAD
    width, height = wide / _DPI, tall / _DPI
    with figure(width, height, dpi=_DPI) as drawn:
        drawn.text(0.12 / width, 1 - 0.24 / height, plain(title, 70), weight="bold", size=11, va="center")
        drawn.text(0.12 / width, 1 - 0.49 / height, _totals(graphs, len(shown)), size=9, va="center", color=QUIET)
        for index, (graph, raster) in enumerate(zip(shown, rasters, strict=True)):
            x = index % across * cell_width + left
            y = tall - _HEAD - index // across * cell_height - top - raster.tall
            # the pixels go straight onto the canvas, the axes stand round them: nothing is resampled
            drawn.figimage(_image(graph, raster), xo=x, yo=y, origin="upper")
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
        return save(drawn, out_png)


def _graph(name: str, arrays: Any, path: Path) -> Graph:
    rows, columns = (np.asarray(arrays[f"{name}.{part}"]) for part in ("rows", "columns"))
    live, shape = np.asarray(arrays[f"{name}.live"]), np.asarray(arrays[f"{name}.shape"])
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or not (shape > 0).all():
        raise ValueError(f"{path.name}: the shape of graph {name!r} is not two positive whole numbers")
    size = (int(shape[0]), int(shape[1]))
    for ends, limit in ((rows, size[0]), (columns, size[1])):
        whole = ends.ndim == 1 and ends.dtype.kind in "iu" and ends.shape == live.shape
        if not whole or (len(ends) and not (int(ends.min()) >= 0 and int(ends.max()) < limit)):
            raise ValueError(f"{path.name}: the edges of graph {name!r} do not fit its shape {size}")
    if live.dtype != np.bool_:
        raise ValueError(f"{path.name}: '{name}.live' is not true or false per edge")
    return Graph(name, rows.astype(np.int64), columns.astype(np.int64), live, size)


@dataclass(frozen=True)
class _Raster:
    """The pixels of one matrix: ``zoom`` pixels a slot where it is small, else ``slots`` slots a pixel."""

    tall: int
    wide: int
    zoom: int = 1
    slots: int = 1


def _raster(shape: tuple[int, int], most: int) -> _Raster:
    longest = max(shape)
    if longest <= most:
        zoom = most // longest
        return _Raster(shape[0] * zoom, shape[1] * zoom, zoom=zoom)
    slots = -(-longest // most)
    return _Raster(-(-shape[0] // slots), -(-shape[1] // slots), slots=slots)


def _image(graph: Graph, raster: _Raster) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = np.full((raster.tall, raster.wide, 4), 255, dtype=np.uint8)
    for mask, colour in ((graph.live, LIVE), (~graph.live, DEAD)):  # the rare dead ones are never covered
        y = graph.rows[mask] // raster.slots * raster.zoom
        x = graph.columns[mask] // raster.slots * raster.zoom
        for down in range(raster.zoom):
            for across in range(raster.zoom):
                image[y + down, x + across, :3] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return image


def _frame(axes: Axes, graph: Graph, raster: _Raster, *, named: bool) -> None:
    axes.set_xlim(-0.5, graph.shape[1] - 0.5)
    axes.set_ylim(graph.shape[0] - 0.5, -0.5)  # node 0 at the top, as in a matrix
    axes.set_xlabel("sending node", fontsize=9)
    axes.set_ylabel("receiving node", fontsize=9)
    axes.tick_params(labelsize=8, length=3)
    for axis, length in ((axes.xaxis, raster.wide), (axes.yaxis, raster.tall)):
        ticks = min(8, max(1, length // _TICK_ROOM))
        axis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10], integer=True))
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
    if named:
        axes.set_title(f"{plain(graph.name, 24)}: {len(graph.live):,} edges", fontsize=9)


def _totals(graphs: list[Graph], shown: int) -> str:
    edges = sum(len(graph.live) for graph in graphs)
    live = sum(int(graph.live.sum()) for graph in graphs)
    # rounded down: 31,999 of 32,000 is not 100 %
    share = f" ({live * 10_000 // edges / 100:.2f} %)" if edges else ""
    more = f" · {shown} of {len(graphs)} graphs shown" if shown < len(graphs) else ""
    return f"{edges:,} edges: {live:,} live{share}, {edges - live:,} dead{more}"
