"""How many edges each weight of a network keeps, where that is settled over all of them.

Erdős–Rényi-kernel (facts 6): a weight's share of the edges is in proportion to the sum of its dimensions, so small
weights are denser than large ones; what would exceed a weight is divided among the others in the same proportion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from dnw_core.wiring.apportion import whole_numbers
from dnw_core.wiring.config_base import LayeredConfig, RuleConfig
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
