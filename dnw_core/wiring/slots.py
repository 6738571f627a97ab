"""The slots of a weight: which entries may become edges, as the network tells its wiring rule."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from torch import BoolTensor, Tensor


@dataclass(frozen=True)
class Slots:
    """The entries of one weight, seen as places where an edge can be.

    Attributes:
        shape: the weight's shape; ``shape[0]`` counts receivers, ``shape[1]`` senders.
        usable: entries that the forward pass reads; None when it reads all.
        released_random: entries among which the authors' released random graph draws (facts 1.6, Q2);
            None when it draws among all.
    """

    shape: tuple[int, ...]
    usable: BoolTensor | Tensor | None = None
    released_random: BoolTensor | Tensor | None = None

    @property
    def numel(self) -> int:
        """Number of slots."""
        product = 1
        for size in self.shape:
            product *= size
        return product


def edges_to_keep(slots: int, density: float) -> int:
    """Return how many of ``slots`` entries a density keeps: the product, rounded up (facts 1.1).

    Decimal arithmetic on the density as written, so that 0.05 of 640,000 is 32,000 and not 32,001.

    Raises:
        ValueError: if the density is outside (0, 1].
    """
    if not 0.0 < density <= 1.0:
        raise ValueError(f"density is {density}; it must be above 0 and at most 1 (the fraction of edges kept)")
    return int((Decimal(repr(density)) * slots).to_integral_value(rounding=ROUND_CEILING))
