"""How many edges a graph keeps: a density, or the width of the ordinary network that it stands for.

Free of torch. Exact arithmetic on the numbers as written, so that 0.05 of 640,000 is 32,000 and not 32,001. A number of
more digits than people write was computed, like 1 - 0.7 = 0.30000000000000004: it stands for every number within the
noise of such a computation, and rounding up starts from the least of them, so that 0.3 of 10,000 is 3,000 so, too.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

# digits, leading zeros aside, of the longest number that is taken for written; the noise of 1 - 0.9999 comes after them
WRITTEN_DIGITS = 12
# how far the sums and differences of a few numbers below 1 are from what was meant: each rounds by 1.1e-16 at most
NOISE = Fraction(1, 10**15)


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
        return _share(self, law, meant=False)

    def edges(self, slots: int, law: WidthLaw | None = None) -> int:
        """Return how many of ``slots`` entries are kept: the product, rounded up (facts 1.1).

        Of a computed density or width the noise is not rounded up: 1 - 0.7 of 10,000 slots is 3,000.

        Raises:
            ValueError: as ``share``.
        """
        self.share(law)  # refuses what is out of range, by its own value
        return math.ceil(_share(self, law, meant=True) * slots)

    def check(self, graph: GraphSize) -> None:
        """Refuse a budget that leaves a graph without a single edge before it is rounded up.

        Raises:
            ValueError: naming the graph and the least that would do.
        """
        share = self.share(graph.law)
        if share.numerator * graph.slots < share.denominator:
            least = _rounded_up(self._least(graph))
            raise ValueError(
                f"{'density' if self.density is not None else 'width'} "
                f"{self.density if self.density is not None else self.width} would keep no edge of the "
                f"{graph.slots:,} slots of {graph.name} ({float(share * graph.slots):.2g}); the least is {least:.3g}"
            )

    def _least(self, graph: GraphSize) -> float:
        if self.density is not None or graph.law is None:
            return 1 / graph.slots
        return float((graph.law.parts / graph.slots) ** (1 / graph.law.power))


@functools.lru_cache(maxsize=1024)  # the tables ask for the same few thousands of times
def _share(budget: EdgeBudget, law: WidthLaw | None, *, meant: bool) -> Fraction:
    """The share as written, or the least that may be meant by it."""
    noise = NOISE if meant else Fraction(0)
    if budget.density is not None:
        share, named = _least_meant(budget.density, noise), f"density is {budget.density}"
    else:
        assert budget.width is not None
        if law is None:
            raise ValueError("width means nothing in this network; give density")
        share, named = _least_meant(budget.width, noise) ** law.power / law.parts, f"width is {budget.width}"
    if not 0 < share <= 1:
        raise ValueError(f"{named}; it must be above 0 and at most 1")
    return share


def _rounded_up(value: float) -> float:
    """Three significant digits, upwards: a printed least that is rounded down would be refused again."""
    scale = 10.0 ** (2 - math.floor(math.log10(value)))
    return math.ceil(value * scale) / scale


def _least_meant(value: float, noise: Fraction) -> Fraction:
    """The number as written; of one that was computed, less the noise (never more than half of it)."""
    written = repr(float(value))  # a subclass of float, as numpy has one, shows itself otherwise
    exact = Fraction(written)
    digits = written.partition("e")[0].replace(".", "").lstrip("0")
    return exact if len(digits) <= WRITTEN_DIGITS else exact - min(noise, abs(exact) / 2)
