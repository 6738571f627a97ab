"""Exact selection of the k largest, and how many edges a density keeps."""

from __future__ import annotations

import pytest
import torch

from dnw_core.wiring.selection import top_k_mask
from dnw_core.wiring.slots import edges_to_keep


def by_sorting(scores: torch.Tensor, k: int) -> torch.Tensor:
    """The same selection written plainly: sort by (score descending, index ascending), keep the first k."""
    values = scores.flatten().tolist()
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[order[:k]] = True
    return mask.view(scores.shape)


@pytest.mark.parametrize("seed", range(5))
def test_same_set_as_a_stable_sort_with_many_ties(seed: int) -> None:
    """Scores of few distinct values: the kept set equals the stable sort's, for every k."""
    scores = torch.randint(0, 4, (7, 9), generator=torch.Generator().manual_seed(seed)).float()
    for k in range(scores.numel() + 1):
        assert torch.equal(top_k_mask(scores, k), by_sorting(scores, k)), k


def test_all_equal_keeps_the_lowest_indices() -> None:
    """When everything ties, the first k entries are kept."""
    mask = top_k_mask(torch.full((3, 4), 0.5), 5)
    assert mask.flatten().tolist() == [True] * 5 + [False] * 7


def test_count_is_exact_even_with_nan_and_infinity() -> None:
    """A diverged weight does not break the count; NaN counts as infinity."""
    scores = torch.tensor([1.0, float("nan"), 3.0, float("inf"), 2.0, float("nan")])
    assert [int(top_k_mask(scores, k).sum()) for k in range(7)] == list(range(7))
    assert top_k_mask(scores, 2).tolist() == [False, True, False, True, False, False]


def test_k_outside_the_range_is_refused() -> None:
    """k must lie between 0 and the number of entries."""
    with pytest.raises(ValueError, match="between 0 and the number of entries, 3"):
        top_k_mask(torch.ones(3), 4)


# facts 2.2: kept edges per MobileNet block, kept fraction d^2 / b; and the tiny nets' 0.05 of 640,000
@pytest.mark.parametrize(
    ("slots", "density", "kept"),
    [
        (640_000, 0.05, 32_000),
        (2_048, 0.225**2, 104),
        (49_152, 0.225**2 / 2, 1_245),
        (196_608, 0.225**2 / 2, 4_977),
        (8_650_752, 0.225**2 / 6, 72_991),
        (3_145_728, 0.225**2 / 2, 79_627),
        (8_650_752, 0.49**2 / 6, 346_175),
        (3_145_728, 0.15**2 / 2, 35_390),
    ],
)
def test_edges_to_keep_agrees_with_the_facts(slots: int, density: float, kept: int) -> None:
    """The product is rounded up, and 0.05 of 640,000 is not 32,001."""
    assert edges_to_keep(slots, density) == kept


def test_a_density_outside_its_range_is_refused() -> None:
    """Zero, negative and more than one."""
    for density in (0.0, -0.1, 1.01):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            edges_to_keep(10, density)
