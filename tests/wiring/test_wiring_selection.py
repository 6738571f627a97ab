"""Exact selection of the k largest, by value and by magnitude."""

from __future__ import annotations

import math

import pytest
import torch

from dnw_core.wiring.selection import SAMPLE_STRIDE, largest_magnitudes, top_k_mask


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


def plainly(weight: torch.Tensor, k: int, among: torch.Tensor | None = None) -> torch.Tensor:
    """The k largest magnitudes by a stable sort in float64; what may not be kept goes to the end."""
    scores = weight.double().abs().flatten()
    if among is not None:
        scores = torch.where(among.flatten(), scores, -1.0)
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[torch.sort(scores, descending=True, stable=True).indices[:k]] = True
    return mask.view(weight.shape)


def drawn(rows: int, columns: int) -> torch.Tensor:
    """A weight of many different values."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))


# large enough that candidates are looked for; 122 columns are a multiple of the sample's stride, its worst case
LARGE = [(300, 122), (256, 160)]


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("k", [1, 40, 1_000, 20_000, 36_000])
def test_largest_magnitudes_are_those_of_a_stable_sort(shape: tuple[int, int], k: int) -> None:
    """By candidates or not, all slots or some: the same set as a plain sort."""
    weight = drawn(*shape)
    assert torch.equal(largest_magnitudes(weight, k), plainly(weight, k))
    among = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6
    if k <= int(among.sum()):
        assert torch.equal(largest_magnitudes(weight, k, among), plainly(weight, k, among))


@pytest.mark.parametrize("shape", LARGE)
def test_largest_magnitudes_break_ties_by_index(shape: tuple[int, int]) -> None:
    """Few distinct values, of either sign, and all of one value: the lowest indices are kept."""
    coarse = drawn(*shape).mul(4).round()
    for weight in (coarse, torch.full(shape, -0.5), torch.zeros(shape)):
        for k in (1, 500, 20_000):
            assert torch.equal(largest_magnitudes(weight, k), plainly(weight, k))


@pytest.mark.parametrize("levels", [4.0, 1e9])
def test_chunks_and_ties_across_them(levels: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small chunks, ties that reach over several of them, all slots or some: the set of a stable sort."""
    monkeypatch.setattr("dnw_core.wiring.selection.CHUNK", 1009)
    weight = drawn(256, 160).mul(levels).round()
    among = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    for k in (1, 777, 5_000, 12_345, 20_000):
        assert torch.equal(largest_magnitudes(weight, k), plainly(weight, k))
        assert torch.equal(largest_magnitudes(weight, k, among), plainly(weight, k, among))


def test_a_misleading_sample_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything large where the sample looks, or everything but that: the estimate is wrong, the result is not."""
    weight = drawn(300, 122)
    for factor in (100.0, 0.01):
        misleading = weight.clone()
        misleading.view(-1)[::SAMPLE_STRIDE] *= factor
        assert torch.equal(largest_magnitudes(misleading, 700), plainly(misleading, 700))
    # everything in doubt, everything above, everything below, and a bracket that is one value
    for bracket in ((0.0, math.inf), (0.0, 1e-9), (1e9, math.inf), (1.0, 1.0)):
        monkeypatch.setattr("dnw_core.wiring.selection._bracket", lambda *_, values=bracket: values)
        assert torch.equal(largest_magnitudes(weight, 700), plainly(weight, 700))


def test_largest_magnitudes_count_nan_as_infinity() -> None:
    """NaN and infinity tie with each other, by index, in a weight where candidates are looked for as in a small one."""
    for shape in ((300, 122), (3, 122)):
        weight = drawn(*shape)
        weight.view(-1)[5] = torch.nan
        weight.view(-1)[3] = -torch.inf
        weight.view(-1)[SAMPLE_STRIDE * 4] = torch.nan
        assert largest_magnitudes(weight, 2).view(-1).nonzero().flatten().tolist() == [3, 5]
        for k in (1, 2, 3, 4, 200):
            mask = largest_magnitudes(weight, k)
            assert int(mask.sum()) == k
            assert torch.equal(mask, plainly(weight.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf), k))


def test_a_weight_that_is_not_contiguous_is_selected_alike() -> None:
    """Indices are those of the logical order, not of the memory."""
    weight = drawn(256, 160).t()
    assert torch.equal(largest_magnitudes(weight, 900), plainly(weight, 900))
