"""The statistics: by hand on small cases, and against scipy.stats on random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.statistics import Sample, compare, describe, published_sample, t_interval


def test_mean_std_and_interval_by_hand() -> None:
    """1, 2, 3, 4, 5: mean 3, variance 2.5 (n−1), and t(0.975, 4) = 2.776445 gives 3 ± 1.963243."""
    sample = describe([1, 2, 3, 4, 5])
    assert sample is not None
    assert (sample.mean, sample.n) == (3.0, 5)
    assert sample.std == pytest.approx(math.sqrt(2.5), rel=1e-15)
    assert t_interval(sample) == pytest.approx((3 - 1.963243, 3 + 1.963243), abs=1e-6)


def test_no_value_and_one_value() -> None:
    """Nothing has no mean; one value has a mean but neither spread, interval nor test."""
    assert describe([]) is None
    single = describe([80.0])
    assert single == Sample(80.0, None, 1)
    assert t_interval(single) is None
    assert compare(single, Sample(80.0, 0.5, 5)) is None


def test_equal_values_have_exactly_no_spread() -> None:
    """0.1 cannot be written in binary, yet ten times the same value spreads by exactly zero."""
    sample = describe([100 * 0.7771] * 10)
    assert sample is not None
    assert sample.std == 0.0


@pytest.mark.parametrize("seed", range(40))
def test_welch_and_tost_agree_with_scipy(seed: int) -> None:
    """p values against ttest_ind_from_stats: two-sided, and one-sided with the mean moved by the margin."""
    from scipy import stats

    rng = np.random.default_rng(seed)
    values = rng.normal(80, rng.uniform(0.1, 2), size=int(rng.integers(2, 9)))
    published = Sample(80 + rng.normal(0, 1.5), rng.uniform(0.1, 2), int(rng.integers(2, 9)))
    ours = describe(list(values))
    assert ours is not None
    found = compare(ours, published)
    assert found is not None

    def reference(shift: float, alternative: str) -> float:
        return stats.ttest_ind_from_stats(
            ours.mean, ours.std, ours.n, published.mean + shift, published.std, published.n,
            equal_var=False, alternative=alternative,
        ).pvalue  # fmt: skip

    assert found.p_different == pytest.approx(reference(0, "two-sided"), rel=1e-9)
    assert found.p_equal == pytest.approx(max(reference(-1, "greater"), reference(1, "less")), rel=1e-9)


def test_one_sample_where_no_spread_is_published() -> None:
    """Without a published spread the tests are ttest_1samp against mean, mean − 1 and mean + 1."""
    from scipy import stats

    values = [80.1, 80.9, 79.7, 80.4]
    ours = describe(values)
    assert ours is not None
    found = compare(ours, Sample(80.0, None, 5))
    assert found is not None
    lower = stats.ttest_1samp(values, 79.0, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, 81.0, alternative="less").pvalue
    assert found.p_different == pytest.approx(stats.ttest_1samp(values, 80.0).pvalue, rel=1e-9)
    assert found.p_equal == pytest.approx(max(lower, upper), rel=1e-9)


def test_welch_by_hand() -> None:
    """ours 81 ± 1 (n 4), published 80 ± 1 (n 4): t = 1/sqrt(1/2), 6 degrees of freedom, p = 0.2070."""
    found = compare(Sample(81.0, 1.0, 4), Sample(80.0, 1.0, 4))
    assert found is not None
    assert found.p_different == pytest.approx(0.20703, abs=1e-5)
    assert found.p_equal == pytest.approx(0.5)  # exactly on the margin
    assert not found.equal
    assert not found.different


@pytest.mark.parametrize(
    ("mean", "equal", "different"),
    [(80.0, True, False), (80.5, True, True), (79.5, True, True), (81.0, False, True), (81.5, False, True)],
)
def test_no_spread_on_either_side(mean: float, equal: bool, different: bool) -> None:
    """Without any variance the means decide exactly, and nothing divides by zero; the margin itself is outside."""
    for published in (Sample(80.0, 0.0, 5), Sample(80.0, None, 5)):
        found = compare(Sample(mean, 0.0, 3), published)
        assert found is not None
        assert (found.equal, found.different) == (equal, different)


def test_a_tiny_spread_does_not_underflow() -> None:
    """A standard deviation whose fourth power underflows still gives finite p values."""
    found = compare(Sample(80.5, 1e-90, 3), Sample(80.0, 1e-90, 5))
    assert found is not None
    assert (found.p_equal, found.p_different) == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.0, abs=1e-12))


def test_one_sided_variance_uses_the_other_sides_freedom() -> None:
    """With a zero published std Welch has our n − 1 degrees of freedom, as a one-sample test."""
    ours = Sample(80.6, 0.8, 5)
    assert compare(ours, Sample(80.0, 0.0, 5)) == compare(ours, Sample(80.0, None, 5))


def test_published_spread_becomes_a_standard_deviation() -> None:
    """± may be printed as a standard error or a 95 % half-width: std = sem·√n, and h·√n / t(0.975, n−1)."""
    from scipy import stats

    assert published_sample(80, 0.6, "std", 4).std == 0.6
    assert published_sample(80, 0.6, None, 4).std == 0.6
    assert published_sample(80, 0.6, "sem", 4).std == pytest.approx(1.2)
    assert published_sample(80, 0.6, "ci95", 4).std == pytest.approx(1.2 / stats.t.ppf(0.975, 3))
    assert published_sample(80, None, "sem", 4).std is None
