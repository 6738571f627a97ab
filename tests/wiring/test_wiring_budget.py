"""How many edges a density or a width keeps, against the facts; and budgets that mean nothing."""

from __future__ import annotations

import math
import random
import re
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dnw_core.config.budget import EdgeBudget, GraphSize, WidthLaw
from dnw_core.config.networks import GraphMobileNetConfig
from dnw_core.config.recipe import Recipe

MOBILENET = GraphMobileNetConfig(kind="graph-mobilenet")
SMALL = GraphMobileNetConfig(kind="graph-mobilenet", classifier="edges", classes=1000)

# facts 2.2: width, kept edges of the five blocks, their sum
KEPT = [
    (0.15, [47, 553, 2_212, 32_441, 35_390], 70_643),
    (0.225, [104, 1_245, 4_977, 72_991, 79_627], 158_944),
    (0.3, [185, 2_212, 8_848, 129_762, 141_558], 282_565),
    (0.49, [492, 5_901, 23_603, 346_175, 377_645], 753_816),
    (0.51, [533, 6_393, 25_569, 375_011, 409_102], 816_608),
]


def by_width(width: float, graphs: list[GraphSize]) -> list[int]:
    """Kept edges of each graph."""
    return [EdgeBudget(density=None, width=width).edges(graph.slots, graph.law) for graph in graphs]


def recipe_with(wiring: dict[str, Any], network: dict[str, Any] | None = None) -> Recipe:
    """A recipe of which only wiring and network matter."""
    values = {
        "network": network or {"kind": "graph-mobilenet"},
        "wiring": wiring,
        "data": {"dataset": "digits"},
        "schedule": {"kind": "cosine"},
        "epochs": 1,
        "batch_size": 8,
    }
    return Recipe.model_validate(values)


def test_slots_of_the_blocks_agree_with_the_facts() -> None:
    """Facts 2.2: 12,044,288 slots in five blocks; the Small classifier has 1,024,000."""
    slots = [graph.slots for graph in MOBILENET.graph_sizes()]
    assert slots == [2_048, 49_152, 196_608, 8_650_752, 3_145_728]
    assert sum(slots) == 12_044_288
    assert [graph.slots for graph in SMALL.graph_sizes()] == [*slots, 1_024_000]


@pytest.mark.parametrize(("width", "kept", "total"), KEPT)
def test_a_width_keeps_as_many_edges_as_in_the_facts(width: float, kept: list[int], total: int) -> None:
    """The published table, block by block, rounded up."""
    assert by_width(width, MOBILENET.graph_sizes()) == kept
    assert sum(kept) == total


def test_full_width_keeps_the_ordinary_networks_weights() -> None:
    """Facts 2.2: at x1 as many edges as MobileNetV1 has pointwise weights, 3,139,584, out of 12,044,288 slots."""
    assert sum(by_width(1.0, MOBILENET.graph_sizes())) == 3_139_584


@pytest.mark.parametrize(("width", "kept"), [(0.15, 153_600), (0.225, 230_400)])
def test_the_small_classifier_keeps_the_width_and_not_its_square(width: float, kept: int) -> None:
    """Facts 2.2."""
    assert by_width(width, SMALL.graph_sizes())[-1] == kept


@pytest.mark.parametrize(
    ("slots", "density", "kept"),
    [(640_000, 0.05, 32_000), (10, 0.1, 1), (10, 0.11, 2), (7, 1.0, 7), (3_000_000, 0.7, 2_100_000)],
)
def test_a_density_keeps_its_share_rounded_up(slots: int, density: float, kept: int) -> None:
    """The number as written counts: 0.05 of 640,000 is not 32,001, and 0.7 of three million no more than it says."""
    assert EdgeBudget(density=density, width=None).edges(slots) == kept
    assert EdgeBudget(density=density, width=None).edges(slots, WidthLaw(2, 6)) == kept  # a law changes no density


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01])
def test_a_share_outside_its_range_is_refused(value: float) -> None:
    """Zero, negative and more than one."""
    with pytest.raises(ValueError, match=f"density is {value}; it must be above 0 and at most 1"):
        EdgeBudget(density=value, width=None).edges(10)
    with pytest.raises(ValueError, match=f"width is {value}; it must be above 0 and at most 1"):
        EdgeBudget(density=None, width=value).edges(10, WidthLaw(1, 1))


@pytest.mark.parametrize(
    ("wiring", "network", "sentence"),
    [
        ({}, None, "takes either density or width"),
        ({"density": 0.1, "width": 0.2}, None, "takes either density or width"),
        ({"width": 0.2}, {"kind": "tiny-static"}, "width means nothing in this network; give density"),
        ({"width": 0.2}, {"kind": "mobilenet-v1"}, "width means nothing in this network; give density"),
        ({"width": 1.2}, None, "less than or equal to 1"),
        ({"width": 0.0}, None, "greater than 0"),
        ({"width": 0.02}, None, r"width 0.02 would keep no edge of the 2,048 slots of block-0 \(0.82\).* 0.0221$"),
        ({"density": 1e-5}, None, r"density 1e-05 would keep no edge of the 2,048 slots of block-0"),
    ],
)
def test_budgets_that_mean_nothing_are_refused_by_the_recipe(
    wiring: dict[str, Any], network: dict[str, Any] | None, sentence: str
) -> None:
    """Both, neither, a width without a meaning, out of range, less than one edge: one sentence each."""
    for rule in ("top-edges", "fixed-random", "l1-anneal"):
        with pytest.raises(ValidationError) as refusal:
            recipe_with({"rule": rule, **wiring}, network)
        (error,) = refusal.value.errors()
        assert re.search(sentence, error["msg"]), error["msg"]


@pytest.mark.parametrize(
    ("setting", "network"), [("width", "graph-mobilenet"), ("density", "graph-mobilenet"), ("density", "tiny-static")]
)
def test_the_least_that_is_named_would_do(setting: str, network: str) -> None:
    """What the refusal names as the least is accepted."""
    with pytest.raises(ValidationError) as refusal:
        recipe_with({"rule": "top-edges", setting: 1e-9}, {"kind": network})
    least = float(refusal.value.errors()[0]["msg"].rsplit(" ", 1)[1])
    assert recipe_with({"rule": "top-edges", setting: least}, {"kind": network}).wiring.budget is not None


@pytest.mark.parametrize("decimals", [1, 2, 3, 4])
def test_one_minus_a_sparsity_keeps_what_is_meant(decimals: int) -> None:
    """Every sparsity of up to four decimals, in weights of many sizes: exactly what the written density keeps."""
    scale, draw = 10**decimals, random.Random(0)
    for part in range(1, scale):
        for slots in (scale, draw.randint(1, 10**4), draw.randint(1, 10**9)):
            meant = -(-(scale - part) * slots // scale)
            for density in (1 - part / scale, (scale - part) / scale, 1.0 - float(f"{part / scale}")):
                assert EdgeBudget(density, None).edges(slots) == meant, (density, slots)


def test_computed_fractions_keep_what_is_meant() -> None:
    """n edges of a weight as the density n / slots, thirds and ninths, sums, products; a share is still rounded up."""
    draw = random.Random(1)
    for _ in range(2000):
        slots = draw.randint(1, 10**9)
        edges = draw.randint(1, slots)
        assert EdgeBudget(edges / slots, None).edges(slots) == edges, (edges, slots)
    for density, slots, kept in [
        (1 / 3, 9, 3),
        (1 / 3, 10, 4),
        (2 / 3, 3_000_000, 2_000_000),
        (5 / 9, 9_000_000, 5_000_000),
        (1 - 0.3 - 0.4, 10_000_000, 3_000_000),
        (0.1 + 0.2, 10_000_001, 3_000_001),
        (0.1**3, 10**6, 1_000),
        (math.pi / 10, 10, 4),
        (1e-17 / 3, 10, 1),
    ]:
        assert EdgeBudget(density, None).edges(slots) == kept, (density, slots)


def test_what_is_written_counts_to_its_last_digit() -> None:
    """Up to twelve digits nothing is noise: just above a whole number is one edge more, however little it is."""
    for slots in (10, 10**9, 10**12):
        assert EdgeBudget(0.100000000001, None).edges(slots) == slots // 10 + max(1, slots // 10**12)
    for digits in range(2, 13):
        scale = 10**digits
        # so many slots that the product lies the least possible bit above a whole number
        slots = 10**15 * scale + pow(scale // 2 + 1, -1, scale)
        assert EdgeBudget(float(f"0.{scale // 2 + 1}"), None).edges(slots) == (scale // 2 + 1) * slots // scale + 1
    assert EdgeBudget(np.float64(0.05), None).edges(640_000) == 32_000
    assert EdgeBudget(None, 1 - 0.7).edges(10_000, WidthLaw(1, 1)) == 3_000
