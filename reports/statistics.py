"""The statistics behind a verdict: mean, spread, interval, Welch's test and two one-sided tests (TOST).

All accuracies are in percent and all differences in percentage points. The t distribution comes from
``scipy.special`` (``stdtr``, ``stdtrit``); ``scipy.stats`` would load ten times as much for the same numbers.

Sources: B. L. Welch, Biometrika 34 (1947); D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

ALPHA = 0.05
CONFIDENCE = 0.95
MARGIN = 1.0  # percentage points within which two means count as equal
ASSUMED_RUNS = 5  # of a published spread whose number of runs is not known (facts 0.7)
_ROUNDING = 1e-9  # percentage points; far below one test image, far above float64 noise


@dataclass(frozen=True)
class Sample:
    """Mean, standard deviation (n−1; None for fewer than two values) and number of values."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """Ours against a published mean. ``p_equal`` is TOST's p, ``p_different`` Welch's two-sided p."""

    difference: float
    p_equal: float
    p_different: float

    @property
    def equal(self) -> bool:
        """Whether the means are shown to lie within the margin of each other."""
        return self.p_equal < ALPHA

    @property
    def different(self) -> bool:
        """Whether the means are shown to be unequal."""
        return self.p_different < ALPHA


def published_sample(mean: float, spread: float | None, spread_is: str | None, n: int) -> Sample:
    """Return a published number as a sample: a standard error or a 95 % half-width becomes a standard deviation.

    Args:
        mean: the published mean.
        spread: the number after the ±, or None.
        spread_is: ``sem`` or ``ci95``; anything else (``std``, a sentence, None) means a standard deviation.
        n: the number of runs.
    """
    if spread is not None and spread_is == "sem":
        spread *= math.sqrt(n)
    elif spread is not None and spread_is == "ci95":
        spread = spread * math.sqrt(n) / float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) if n > 1 else None
    return Sample(mean=mean, std=spread, n=n)


def describe(values: Sequence[float]) -> Sample | None:
    """Return mean, standard deviation and n, or None without any value.

    ``statistics`` adds exactly: equal values have a standard deviation of exactly zero.
    """
    if not values:
        return None
    numbers = [float(value) for value in values]
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Sample(mean=statistics.mean(numbers), std=std, n=len(numbers))


def t_interval(sample: Sample | None, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return the two-sided t interval of the mean, or None for fewer than two values."""
    if sample is None or sample.std is None:
        return None
    quantile = float(stdtrit(sample.n - 1, 0.5 + confidence / 2))
    half = quantile * sample.std / math.sqrt(sample.n)
    return sample.mean - half, sample.mean + half


def compare(ours: Sample, published: Sample, margin: float = MARGIN) -> Comparison | None:
    """Test our mean against the published one, or return None where ours has no spread (n = 1).

    With a published spread the standard error and the degrees of freedom are Welch's; without one (or with
    a spread of a single run) the published mean is taken as a fixed number: one-sample tests.
    """
    if ours.std is None:
        return None
    difference = ours.mean - published.mean
    error, freedom = _standard_error(ours, published)
    if error == 0:  # no spread at all: the difference is exact
        return Comparison(
            difference,
            p_equal=0.0 if abs(difference) < margin - _ROUNDING else 1.0,
            p_different=0.0 if abs(difference) > _ROUNDING else 1.0,
        )
    not_below = float(stdtr(freedom, -(difference + margin) / error))  # H0: difference <= -margin
    not_above = float(stdtr(freedom, (difference - margin) / error))  # H0: difference >= +margin
    two_sided = 2 * float(stdtr(freedom, -abs(difference) / error))
    return Comparison(difference, p_equal=max(not_below, not_above), p_different=two_sided)


def _standard_error(ours: Sample, published: Sample) -> tuple[float, float]:
    """Return the standard error of the difference and Welch–Satterthwaite's degrees of freedom."""
    first = _variance_of_mean(ours)
    second = _variance_of_mean(published)
    total = first + second
    if total == 0:
        return 0.0, 1.0
    # shares instead of squares of variances: tiny spreads cannot underflow to 0 / 0
    share = first / total
    inverse = share**2 / (ours.n - 1)
    if second > 0:
        inverse += (1 - share) ** 2 / (published.n - 1)
    return math.sqrt(total), 1 / inverse


def _variance_of_mean(sample: Sample) -> float:
    if sample.std is None or sample.n < 2:
        return 0.0
    return sample.std**2 / sample.n
