"""The common style: colours that colour-blind readers can tell apart, quiet axes, files written in one step.

Figures are drawn on Agg canvases of their own, without pyplot: no global state, no display, safe in threads.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from dnw_core.files import write_bytes
from reports.rows import ReportRow
from reports.text import plain
from reports.verdicts import PAPER_SCALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008), ordered so that neighbours differ in lightness too; yellow is left out: too pale for lines
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
INK = "#222222"
QUIET = "#6b6b6b"
FAINT = "#b4b4b4"
GRID = "#e4e4e4"
LABEL_LIMIT = 44
_MOST_PIXELS = 32_000  # of a side; matplotlib draws none of 65,536, and a canvas of that size takes gigabytes
_COMPRESSION = 3  # of 9: a picture is written in two thirds of the time of the usual 6, as small or 1.8 times as large

_SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
}
LineStyle: TypeAlias = str | tuple[int, tuple[float, ...]]
Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]  # rows, columns, red/green/blue
Looks: TypeAlias = Mapping[tuple[str, str, str], tuple[str, LineStyle]]  # of each row, by its key


@contextmanager
def figure(width: float, height: float, dpi: int = 150) -> Iterator[Figure]:
    """Give a blank figure (inches) drawn with the report's settings while the context is open."""
    import matplotlib as mpl  # only where a figure is drawn: it takes half a second
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # a label in a script the font lacks is drawn as boxes; that does not concern the user
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        dpi = min(dpi, int(_MOST_PIXELS / max(width, height)))  # a table of a thousand rows: coarse, but a picture
        drawn = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
        FigureCanvasAgg(drawn)
        yield drawn


def save(drawn: Figure, path: Path) -> Path:
    """Write the figure as PNG in one step, and give its canvas's memory back: it can be written once."""
    return write_png(canvas_pixels(drawn), path, drawn.dpi)


def canvas_pixels(drawn: Figure) -> Pixels:
    """Draw the figure once and return its pixels; rows down, columns across, then red, green and blue."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = drawn.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call]
    # the background is white: nothing is transparent
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
    # a figure, its texts and its canvas hold one another: left to the garbage collector, dozens of 13 MB pile up
    vars(vars(canvas)["renderer"]).clear()
    return pixels


def write_png(pixels: Pixels, path: Path, dpi: float) -> Path:
    """Write pixels as PNG in one step and return its path."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=_COMPRESSION, dpi=(dpi, dpi))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
    return path


def quiet_axes(axes: Axes, grid: str) -> None:
    """Remove the box and draw a faint grid along one axis (``x`` or ``y``) behind the data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x" if grid == "x" else "y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def scale_note(rows: Sequence[ReportRow]) -> str:
    """Return the note for a title whose rows were not run at paper scale: that they are not a reproduction."""
    scales = ", ".join(sorted({row.scale for row in rows if row.scale != PAPER_SCALE}))
    return f" · {plain(scales)} scale: no reproduction" if scales else ""


def row_colours(rows: Sequence[ReportRow]) -> dict[tuple[str, str, str], tuple[str, LineStyle]]:
    """Return each row's colour and line style; a corrected row has the colour of the row it corrects."""
    looks: dict[tuple[str, str, str], tuple[str, LineStyle]] = {}
    by_name: dict[str, tuple[str, LineStyle]] = {}
    leaders = [row for row in rows if not row.corrects] + [row for row in rows if row.corrects]
    index = 0
    for row in leaders:
        look = by_name.get(row.corrects or "")
        if look is None:
            look = (PALETTE[index % len(PALETTE)], LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)])
            index += 1
        looks[row.key] = look
        by_name.setdefault(row.row, look)
    return looks


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near the wanted ones, at least ``gap`` apart and within ``low``..``high`` where they fit."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    placed = [0.0] * len(wanted)
    floor = low
    for index in order:
        placed[index] = max(wanted[index], floor)
        floor = placed[index] + gap
    ceiling = high
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed
