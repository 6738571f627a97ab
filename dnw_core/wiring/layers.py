"""How many edges each weight of a network keeps, where that is settled over all of them.

Erdős–Rényi-kernel (facts 6): a weight's share of the edges is in proportion to the sum of its dimensions, so small
weights are denser than large ones; what would exceed a weight is divided among the others in the same proportion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from dnw_core.config import LayeredConfig, RuleConfig
from dnw_core.wiring.slots import Slots


def settle(config: RuleConfig, weights: Sequence[Slots]) -> list[Slots]:
    """Return the weights' slots, with the number of kept edges where the rule's settings divide them unevenly."""
    if not isinstance(config, LayeredConfig) or config.layers == "uniform":
        return list(weights)
    total = sum(config.budget.edges(slots.numel, slots.law) for slots in weights)
    kept = erdos_renyi_kernel([slots.shape for slots in weights], total, [slots.usable_count for slots in weights])
    return [replace(slots, kept=edges) for slots, edges in zip(weights, kept, strict=True)]


def erdos_renyi_kernel(shapes: Sequence[tuple[int, ...]], total: int, rooms: Sequence[int] | None = None) -> list[int]:
    """Divide ``total`` edges among weights of these shapes; return each one's number.

    What a weight gets beyond whole edges is rounded down, and the edges left over go to the largest remainders, first
    weight first on ties: the sum is ``total`` exactly.

    Args:
        shapes: of the weights, in the order of the result.
        total: edges to divide.
        rooms: how many edges each weight can take; None for one in every slot.

    Raises:
        ValueError: if ``total`` is negative or exceeds the rooms.
    """
    sizes = [math.prod(shape) for shape in shapes] if rooms is None else list(rooms)
    if not 0 <= total <= sum(sizes):
        raise ValueError(f"{total} edges cannot be divided among {sum(sizes)} slots")
    full: set[int] = set()
    while True:
        others = [index for index in range(len(shapes)) if index not in full]
        room = total - sum(sizes[index] for index in full)
        weights = sum(sum(shapes[index]) for index in others)
        shares = {index: Fraction(room * sum(shapes[index]), weights) for index in others}
        above = {index for index in others if shares[index] >= sizes[index]}
        if not above:
            break
        full |= above
    return whole_numbers([Fraction(sizes[index]) if index in full else shares[index] for index in range(len(shapes))])


def whole_numbers(shares: Sequence[Fraction]) -> list[int]:
    """Round the shares down, then give what is left over to the largest remainders, first share first on ties.

    Args:
        shares: not negative, of a whole sum, which the result has too. A whole share stays as it is.
    """
    whole = [int(share) for share in shares]
    left = sum(shares) - sum(whole)
    assert left.denominator == 1, f"the shares add up to {sum(shares)}, which is not a whole number"
    by_remainder = sorted(range(len(shares)), key=lambda index: (whole[index] - shares[index], index))
    for index in by_remainder[: int(left)]:
        whole[index] += 1
    return whole


def divide(total: int, parts: Sequence[float], rooms: Sequence[int]) -> list[int]:
    """Divide ``total`` edges in proportion to ``parts``; what exceeds a weight's room goes to the others equally.

    Equally, not in proportion: the method's own way with weights that are full (facts 4.3).

    Args:
        total: edges, at most the sum of the rooms.
        parts: of each weight, not negative, finite, not all zero.
        rooms: how many edges each weight can take.

    Returns:
        Each weight's number, at most its room; the sum is ``total``.
    """
    assert 0 <= total <= sum(rooms), f"{total} edges do not fit into {sum(rooms)} slots"
    exact = [Fraction(part) for part in parts]
    wanted = [part * total / sum(exact) for part in exact]
    full: set[int] = set()
    while True:
        others = [index for index in range(len(rooms)) if index not in full]
        taken = sum(rooms[index] for index in full) + sum((wanted[index] for index in others), Fraction(0))
        # some weight is always left, since the total fits into the rooms
        each = (total - taken) / len(others)
        above = {index for index in others if wanted[index] + each > rooms[index]}
        if not above:
            break
        full |= above
    shares = [Fraction(rooms[index]) if index in full else wanted[index] + each for index in range(len(rooms))]
    return whole_numbers(shares)
