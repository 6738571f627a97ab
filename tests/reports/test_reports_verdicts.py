"""Every verdict word, its precedence, and the scale in brackets."""

from __future__ import annotations

from typing import Any

import pytest

from reports.statistics import Comparison, Sample, compare
from reports.verdicts import EXPLANATIONS, Kind, Progress, decide

FULL = Progress(planned=5, done=5)


def verdict(progress: Progress = FULL, tests: Comparison | None = None, **given: Any) -> str:
    """Return the verdict's text for a row at paper scale with a published number, unless told otherwise."""
    return decide(progress, tests, comparable=given.get("comparable", True), scale=given.get("scale", "paper")).text


@pytest.mark.parametrize(
    ("mean", "std", "word"),
    [
        (80.95, 0.4, "matches"),
        (83.0, 0.4, "differs +"),
        (79.0, 0.4, "differs −"),
        (80.9, 2.5, "undecided: too few seeds"),
        (81.6, 0.9, "undecided: too few seeds"),
    ],
)
def test_the_tests_decide(mean: float, std: float, word: str) -> None:
    """Five seeds against the published 80.9 ± 0.6 (n 5) get the word that the two tests give."""
    assert verdict(tests=compare(Sample(mean, std, 5), Sample(80.9, 0.6, 5))) == word


def test_a_certain_but_tiny_difference_matches() -> None:
    """When Welch sees a difference and TOST puts it within the margin, the row matches."""
    tests = compare(Sample(81.4, 0.05, 5), Sample(80.9, 0.05, 5))
    assert tests is not None
    assert tests.equal
    assert tests.different
    assert verdict(tests=tests) == "matches"


def test_one_seed_is_undecided() -> None:
    """A single planned seed that is done has no spread: undecided."""
    assert verdict(Progress(planned=1, done=1)) == "undecided: too few seeds"


@pytest.mark.parametrize(
    ("progress", "word"),
    [
        (Progress(5, done=3, failed=2), "failed"),
        (Progress(5, done=0, failed=5), "failed"),
        (Progress(5, done=3, failed=1), "partial 3/5"),  # one is left to run
        (Progress(5, done=0, failed=1), "partial 0/5"),
        (Progress(5, done=0, running=1), "partial 0/5"),
        (Progress(5, done=4, unreadable=1), "partial 4/5"),
        (Progress(5, done=0), "missing"),
    ],
)
@pytest.mark.parametrize("comparable", [True, False])
def test_what_was_not_done_comes_first(progress: Progress, word: str, comparable: bool) -> None:
    """failed, missing and partial go before any comparison, and carry the scale where it is not paper."""
    tests = compare(Sample(80.9, 0.1, 5), Sample(80.9, 0.6, 5))
    assert verdict(progress, tests, comparable=comparable) == word
    assert verdict(progress, tests, comparable=comparable, scale="smoke") == f"{word} (smoke: no reproduction)"


@pytest.mark.parametrize("scale", ["smoke", "short"])
def test_no_scale_but_paper_is_compared(scale: str) -> None:
    """At smoke and short scale a perfect agreement is still not comparable, and says so with the scale."""
    tests = compare(Sample(80.9, 0.1, 5), Sample(80.9, 0.6, 5))
    assert verdict(tests=tests, scale=scale) == f"not comparable ({scale}: no reproduction)"
    assert verdict(tests=tests, comparable=False) == "not comparable"


def test_a_number_of_another_recipe_is_never_judged() -> None:
    """At paper scale it has a word of its own once all seeds are done; other scales and open seeds come first."""
    tests = compare(Sample(80.9, 0.1, 5), Sample(80.9, 0.6, 5))

    def other(progress: Progress, scale: str) -> str:
        return decide(progress, tests, comparable=False, scale=scale, other_recipe=True).text

    assert other(FULL, "paper") == "other recipe"
    assert other(FULL, "short") == "not comparable (short: no reproduction)"
    assert other(Progress(5, done=3), "paper") == "partial 3/5"


def test_every_word_is_explained() -> None:
    """The legend has an explanation for each word."""
    assert set(EXPLANATIONS) == set(Kind)
