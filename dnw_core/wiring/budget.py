"""How many edges a graph keeps: a density, or the width of the ordinary network that it stands for.

Free of torch. Exact arithmetic on the numbers as written, so that 0.05 of 640,000 is 32,000 and not 32,001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class WidthLaw:
    """What a width multiplier d means in one graph: the fraction d**power / parts of its slots (facts 2.2).

    Attributes:
        power: 2 where senders and receivers scale with the width, 1 where the senders alone do.
        parts: groups of receivers that share the senders (b); the ordinary network has one of them.
    """

    power: int
    parts: int


@dataclass(frozen=True)
class GraphSize:
    """One graph of a network as a plan needs it.

    Attributes:
        name: the graph's name.
        slots: entries of its weight.
        law: what a width means there; None where it means nothing.
    """

    name: str
    slots: int
    law: WidthLaw | None = None


@dataclass(frozen=True)
class EdgeBudget:
    """Either a density (fraction of slots kept) or a width multiplier."""

    density: float | None
    width: float | None

    def share(self, law: WidthLaw | None) -> Fraction:
        """Return the fraction of slots that is kept, exactly.

        Raises:
            ValueError: if a width is asked of a graph that has none, or the fraction is outside (0, 1].
        """
        if self.density is not None:
            share, named = _exactly(self.density), f"density is {self.density}"
        else:
            assert self.width is not None
            if law is None:
                raise ValueError("width means nothing in this network; give density")
            share, named = _exactly(self.width) ** law.power / law.parts, f"width is {self.width}"
        if not 0 < share <= 1:
            raise ValueError(f"{named}; it must be above 0 and at most 1")
        return share

    def edges(self, slots: int, law: WidthLaw | None = None) -> int:
        """Return how many of ``slots`` entries are kept: the product, rounded up (facts 1.1).

        Raises:
            ValueError: as ``share``.
        """
        return math.ceil(self.share(law) * slots)

    def check(self, graph: GraphSize) -> None:
        """Refuse a budget that leaves a graph without a single edge before it is rounded up.

        Raises:
            ValueError: naming the graph and the least that would do.
        """
        expected = self.share(graph.law) * graph.slots
        if expected < 1:
            least = _rounded_up(self._least(graph))
            raise ValueError(
                f"{'density' if self.density is not None else 'width'} "
                f"{self.density if self.density is not None else self.width} would keep no edge of the "
                f"{graph.slots:,} slots of {graph.name} ({float(expected):.2g}); the least is {least:.3g}"
            )

    def _least(self, graph: GraphSize) -> float:
        if self.density is not None or graph.law is None:
            return 1 / graph.slots
        return float((graph.law.parts / graph.slots) ** (1 / graph.law.power))


def _rounded_up(value: float) -> float:
    """Three significant digits, upwards: a printed least that is rounded down would be refused again."""
    scale = 10.0 ** (2 - math.floor(math.log10(value)))
    return math.ceil(value * scale) / scale


def _exactly(value: float) -> Fraction:
    return Fraction(repr(value))
