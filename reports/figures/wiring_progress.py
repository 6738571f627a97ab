"""The wiring while it is trained: edges swapped in each epoch, the share of live edges, the number of dead nodes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from reports.figures.lines import Measure
from reports.text import count_of, share


def count_scale(axes: Axes, highest: float) -> None:
    """Show 0 and 50,000 on one axis: logarithmic from 1 on, linear below, 0 a little above the edge."""
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_ylim(-0.3, max(2.0 * highest, 10.0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def share_scale(axes: Axes, highest: float) -> None:
    """Show 100 % at the top and at least one percent below it."""
    low = min(axes.get_ylim()[0], 99.0)
    axes.set_ylim(max(low, -2.0), 100 + 0.03 * (100 - low))


SWAPPED = Measure("edges_swapped", "edges swapped in the epoch", count_of, "edges swapped", count_scale)
LIVE = Measure("live_share", "live edges (% of the kept)", share, "live edges", share_scale)
DEAD = Measure("dead_nodes", "dead nodes", count_of, "dead nodes", count_scale)
