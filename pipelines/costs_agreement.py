"""Whether a count of ours is the one that a paper prints: ``0.5M``, ``41M``, ``> 50M``. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Literal

TOLERANCE = Decimal("0.01")
_BOUND = "> "

Kind = Literal["agrees", "cut", "differs"]


@dataclass(frozen=True)
class Agreement:
    """How a count stands to the printed one.

    Attributes:
        kind: agrees: within 1 %, or ours rounds to the printed digits (or lies above a printed bound); cut: the printed
            digits are ours with the further ones cut off instead of rounded; differs: none of these.
        percent: how far ours lies above the printed number.
    """

    kind: Kind
    percent: float

    def __str__(self) -> str:
        if self.kind == "agrees":
            return "agrees"
        text = f"differs by {self.percent:+.1f} %".replace("-", "−")
        return f"{text} (cut off, not rounded)" if self.kind == "cut" else text


def compare_printed(printed: str, ours: float) -> Agreement:
    """Return how ``ours`` (a count, or the mean of some) stands to a number as the paper prints it."""
    bound, number = printed.startswith(_BOUND), Decimal(printed.removeprefix(_BOUND).removesuffix("M"))
    millions = Decimal(ours) / 1_000_000
    above = millions / number - 1
    if bound:
        kind: Kind = "agrees" if millions > number else "differs"
    elif abs(above) <= TOLERANCE or millions.quantize(number, ROUND_HALF_UP) == number:
        kind = "agrees"
    else:
        kind = "cut" if millions.quantize(number, ROUND_DOWN) == number else "differs"
    return Agreement(kind, float(100 * above))
