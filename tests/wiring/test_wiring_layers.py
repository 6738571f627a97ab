"""Edges divided among the weights of a network: Erdős–Rényi-kernel, whole numbers, and what rules make of them."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import pytest
import torch

from dnw_core.config.rules import FixedRandomConfig, TopEdgesConfig
from dnw_core.models.build import build_rule
from dnw_core.wiring.layers import divide, erdos_renyi_kernel, settle, whole_numbers
from dnw_core.wiring.slots import Slots

Shape = tuple[int, ...]


def resnet50() -> list[Shape]:
    """Shapes of the 54 weights of the sparse ResNet-50, from the published structure (facts 3)."""
    shapes: list[Shape] = [(64, 3, 7, 7)]
    senders = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for block in range(blocks):
            shapes += [(inner, senders, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1)]
            if block == 0:
                shapes.append((4 * inner, senders, 1, 1))
            senders = 4 * inner
    return [*shapes, (1000, 2048, 1, 1)]


def by_bisection(shapes: list[Shape], total: int, rooms: list[int]) -> list[float]:
    """Each weight's edges min(room, scale * sum of dimensions), the scale found by halving, in double precision."""
    low, high = 0.0, float(max(rooms))
    for _ in range(200):
        scale = (low + high) / 2
        if sum(min(room, scale * sum(shape)) for room, shape in zip(rooms, shapes, strict=True)) < total:
            low = scale
        else:
            high = scale
    return [min(room, high * sum(shape)) for room, shape in zip(rooms, shapes, strict=True)]


def drawn_shapes(draw: random.Random) -> list[Shape]:
    """A few linear and convolutional weights."""
    kinds: list[Any] = [
        lambda side: (side(), side()),
        lambda side: (side(), side(), 3, 3),
        lambda side: (side(), 1, 1, 1),
    ]
    return [draw.choice(kinds)(lambda: draw.randint(1, 40)) for _ in range(draw.randint(1, 9))]


def test_by_hand() -> None:
    """Shares 7, 7 and 110 of 93 edges, rooms 12, 12 and 2,500: 5.25, 5.25, 82.5; the larger remainder takes the one."""
    assert erdos_renyi_kernel([(4, 3), (3, 4), (100, 10)], 93) == [5, 5, 83]
    # 14 and 12 of 26: first 7 and 6, the first weight has room for 4, and 9 are left for the other
    assert erdos_renyi_kernel([(2, 2, 5, 5), (6, 6)], 13) == [7, 6]
    assert erdos_renyi_kernel([(2, 2, 5, 5), (6, 6)], 13, rooms=[4, 36]) == [4, 9]
    # equal remainders: the first weights take what is left
    assert erdos_renyi_kernel([(5, 5)] * 3, 11) == [4, 4, 3]


def test_against_bisection_on_random_networks() -> None:
    """Within one edge of an independent solution in double precision; the sum, the rooms and the order hold exactly."""
    draw = random.Random(0)
    overfull = 0
    for _ in range(150):
        shapes = drawn_shapes(draw)
        rooms = [math.prod(shape) - draw.choice([0, 0, draw.randint(0, math.prod(shape))]) for shape in shapes]
        total = draw.randint(0, sum(rooms))
        kept = erdos_renyi_kernel(shapes, total, rooms)
        expected = by_bisection(shapes, total, rooms)
        assert sum(kept) == total
        for edges, share, room in zip(kept, expected, rooms, strict=True):
            assert 0 <= edges <= room
            assert abs(edges - share) < 1 + 1e-6
        overfull += any(edges == room > 0 for edges, room in zip(kept, rooms, strict=True))
    assert overfull > 50


@pytest.mark.parametrize(("density", "total"), [(0.1, 2_550_318), (0.2, 5_100_607), (0.3, 7_650_902)])
def test_resnet50(density: float, total: int) -> None:
    """The total of facts 3 to the edge; the same scale in every weight that is not full; small weights are denser."""
    shapes = resnet50()
    sizes = [math.prod(shape) for shape in shapes]
    assert (len(shapes), sum(sizes)) == (54, 25_502_912)
    settled = settle(
        FixedRandomConfig(rule="fixed-random", density=density, layers="erk"), [Slots(shape) for shape in shapes]
    )
    kept = [slots.kept or 0 for slots in settled]
    assert sum(kept) == total
    for edges, share in zip(kept, by_bisection(shapes, total, sizes), strict=True):
        assert abs(edges - share) < 1 + 1e-3
    # the property that gives the method its name: density is in proportion to the sum of dimensions over their product
    scales = [edges / sum(shape) for edges, shape, size in zip(kept, shapes, sizes, strict=True) if edges < size]
    assert max(scales) - min(scales) < 0.02
    full = [shape for shape, edges in zip(shapes, kept, strict=True) if edges == math.prod(shape)]
    assert (64, 64, 1, 1) in full
    assert kept[-2] < 0.5 * sizes[-2]
    # rounded up in each weight, as everywhere
    assert sum(-(-int(density * 10) * size // 10) for size in sizes) == total


def test_uniform_layers_and_other_rules_are_left_alone() -> None:
    """Only ``layers: erk`` settles numbers."""
    weights = [Slots((4, 3)), Slots((100, 10))]
    for config in (TopEdgesConfig(rule="top-edges", density=0.5), FixedRandomConfig(rule="fixed-random", density=0.5)):
        assert settle(config, weights) == weights


def test_a_rule_draws_the_settled_number() -> None:
    """Fixed random edges with erk: each weight's own number, all of a full one's slots, never an unusable slot."""
    usable = torch.zeros(6, 6, dtype=torch.bool)
    usable[:2] = True
    config = FixedRandomConfig(rule="fixed-random", density=0.4, layers="erk", eligible_slots="corrected")
    # 11 + 15 + 40 = 66 edges by 10, 12 and 20 of 42: 15.7, 18.9, 31.4; the second has room for 12, and the other 54
    # go by 10 and 20 of 30
    weights = settle(config, [Slots((3, 3, 3, 1)), Slots((6, 6), usable=usable), Slots((10, 10))])
    assert [slots.kept for slots in weights] == [18, 12, 36]
    for index, slots in enumerate(weights):
        mask = build_rule(config, slots, 0, str(index)).edges(torch.zeros(slots.shape))
        assert int(mask.sum()) == slots.kept
        if index == 1:
            assert torch.equal(mask, usable)


@pytest.mark.parametrize("total", [-1, 25])
def test_what_does_not_fit_is_refused(total: int) -> None:
    """A clear sentence."""
    with pytest.raises(ValueError, match=f"{total} edges cannot be divided among 24 slots"):
        erdos_renyi_kernel([(3, 4), (4, 3)], total)


def test_whole_numbers_by_hand() -> None:
    """Rounded down, then the largest remainders, the first of equal ones; whole shares stay."""
    halves = [Fraction(5, 2), Fraction(1, 2), Fraction(4), Fraction(1, 2), Fraction(1, 2)]
    assert whole_numbers(halves) == [3, 1, 4, 0, 0]
    assert whole_numbers([Fraction(4, 3), Fraction(5, 3)]) == [1, 2]
    assert whole_numbers([]) == []


def test_division_by_hand() -> None:
    """100 by 5 : 3 : 2 is 50, 30, 20. Room for 20 in the first leaves 30, 15 for each of the others.

    With room for 40 in the second as well, the 5 that it cannot take go to the third.
    """
    assert divide(100, [5.0, 3.0, 2.0], [100, 100, 100]) == [50, 30, 20]
    assert divide(100, [5.0, 3.0, 2.0], [20, 100, 100]) == [20, 45, 35]
    assert divide(100, [5.0, 3.0, 2.0], [20, 40, 100]) == [20, 40, 40]
    assert divide(100, [1.0, 0.0], [30, 70]) == [30, 70]
    assert divide(0, [1.0, 2.0], [0, 0]) == [0, 0]


def test_division_is_exact_and_fills_no_weight_beyond_its_room() -> None:
    """Against bisection on what each weight gets beyond its share, within one edge."""
    draw = random.Random(1)
    for _ in range(150):
        count = draw.randint(1, 9)
        rooms = [draw.choice([0, draw.randint(0, 50), draw.randint(0, 5000)]) for _ in range(count)]
        total = draw.randint(0, sum(rooms))
        parts = [draw.random() ** 4 for _ in range(count)]
        wanted = [total * part / sum(parts) for part in parts]
        low, high = 0.0, float(total)
        for _ in range(100):
            each = (low + high) / 2
            fits = sum(min(room, want + each) for room, want in zip(rooms, wanted, strict=True)) < total
            low, high = (each, high) if fits else (low, each)
        got = divide(total, parts, rooms)
        assert sum(got) == total
        for edges, want, room in zip(got, wanted, rooms, strict=True):
            assert 0 <= edges <= room
            assert abs(edges - min(room, want + high)) < 1 + 1e-6
