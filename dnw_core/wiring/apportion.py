"""Whole numbers of edges from shares that are not whole, so that the sum is exact. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def whole_numbers(shares: Sequence[Fraction]) -> list[int]:
    """Round the shares down, then give what is left over to the largest remainders, first share first on ties.

    Args:
        shares: not negative, of a whole sum, which the result has too. A whole share stays as it is.
    """
    whole = [int(share) for share in shares]
    left = sum(shares) - sum(whole)
    assert left.denominator == 1, f"the shares add up to {sum(shares)}, which is no whole number"
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
