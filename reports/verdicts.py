"""The verdicts: what each means, and which one a row gets. Only this module defines them.

The first that holds:

1. ``not reproducible`` nobody can train the row, and why;
2. ``failed``           every planned seed has ended, and at least one of them failed;
3. ``data missing``     nothing of the row has been started, for want of its data set;
4. ``missing``          nothing of the row has been started (perhaps its parent failed);
5. ``partial k/n``      fewer seeds done than planned;
6. ``not comparable``   any scale but paper, a ``--set`` variant, or no published number;
7. ``other recipe``     the published number was trained with another recipe than ours;
8. ``matches``          TOST shows the means to be within one point, even if Welch also shows a tiny difference;
9. ``differs +/−``      Welch shows a difference in that direction;
10. ``undecided``       neither, also for a single seed.

A verdict at any scale but paper says in brackets that it is no reproduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reports.statistics import ALPHA, ASSUMED_RUNS, MARGIN, Comparison

PAPER_SCALE = "paper"


class Kind(StrEnum):
    """The verdicts."""

    MATCHES = "matches"
    DIFFERS_UP = "differs +"
    DIFFERS_DOWN = "differs −"
    UNDECIDED = "undecided: too few seeds"
    OTHER_RECIPE = "other recipe"
    NOT_COMPARABLE = "not comparable"
    PARTIAL = "partial"
    FAILED = "failed"
    DATA_MISSING = "data missing"
    MISSING = "missing"
    NOT_REPRODUCIBLE = "not reproducible"


_LEVEL = f"{100 - 100 * ALPHA:g} %"

EXPLANATIONS: dict[Kind, str] = {
    Kind.MATCHES: (
        f"ours lies within {MARGIN:g} percentage point of the published mean with {_LEVEL} confidence "
        "(two one-sided Welch t-tests; one-sample tests where no spread is published)"
    ),
    Kind.DIFFERS_UP: f"ours is higher (Welch's two-sided t-test, p < {ALPHA:g}) and not shown to be that near",
    Kind.DIFFERS_DOWN: f"ours is lower (Welch's two-sided t-test, p < {ALPHA:g}) and not shown to be that near",
    Kind.UNDECIDED: "neither of the above can be shown: the seeds are too few for their spread",
    Kind.OTHER_RECIPE: (
        "the published number was trained with another recipe than this row (batch, schedule or epochs of another "
        "paper), or one not known in every part: it is shown beside ours, and their difference, which tells recipes as "
        "much as methods, is not judged"
    ),
    Kind.NOT_COMPARABLE: (
        "not run as published (a scale other than paper, or changed with `--set`), or nothing was published for it"
    ),
    Kind.PARTIAL: "fewer seeds are done than planned; the rest was not or cannot be started, runs or was interrupted",
    Kind.FAILED: "every planned seed has ended and at least one failed; the reason stands in the row's details",
    Kind.DATA_MISSING: "nothing of this row has been run yet: its data set was not found where it says beside",
    Kind.MISSING: "nothing of this row has been run yet; where it cannot be run now, the reason stands beside",
    Kind.NOT_REPRODUCIBLE: "nobody can train this row, for the reason given; it does not count as missing",
}
# stands under the legend of every table
ASSUMPTION = (
    f"A published n marked `*` is not known and assumed to be {ASSUMED_RUNS}. "
    "± is the standard deviation over seeds (n−1); the interval is the 95 % t interval of our mean."
)


@dataclass(frozen=True)
class Progress:
    """The number of a row's planned seeds in each state."""

    planned: int
    done: int
    failed: int = 0
    running: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class Verdict:
    """A verdict, and the text of its column (``partial 3/5 (smoke: no reproduction)``)."""

    kind: Kind
    text: str


def decide(
    progress: Progress,
    comparison: Comparison | None,
    *,
    comparable: bool,
    scale: str,
    other_recipe: bool = False,
    data_missing: bool = False,
    not_reproducible: str | None = None,
) -> Verdict:
    """Return the row's verdict.

    Args:
        progress: the planned seeds by state.
        comparison: the tests against the published number; None for a single seed or without a number.
        comparable: whether the row was run as published and has a published number.
        scale: the scale it was run at.
        other_recipe: whether the published number was trained with another recipe than the row.
        data_missing: whether its data set was not found.
        not_reproducible: why nobody can train it, where that is so.
    """
    if not_reproducible is not None:
        return Verdict(Kind.NOT_REPRODUCIBLE, f"{Kind.NOT_REPRODUCIBLE}: {not_reproducible}")
    kind = _kind(progress, comparison, comparable=comparable and scale == PAPER_SCALE)
    if kind is Kind.MISSING and data_missing:
        kind = Kind.DATA_MISSING
    if kind is Kind.NOT_COMPARABLE and other_recipe and scale == PAPER_SCALE:
        kind = Kind.OTHER_RECIPE
    text = f"{kind} {progress.done}/{progress.planned}" if kind is Kind.PARTIAL else str(kind)
    return Verdict(kind, text if scale == PAPER_SCALE else f"{text} ({scale}: no reproduction)")


def _kind(progress: Progress, comparison: Comparison | None, *, comparable: bool) -> Kind:
    if progress.failed and progress.done + progress.failed >= progress.planned:
        return Kind.FAILED
    if not progress.done + progress.failed + progress.running + progress.unreadable:
        return Kind.MISSING
    if progress.done < progress.planned:
        return Kind.PARTIAL
    if not comparable:
        return Kind.NOT_COMPARABLE
    if comparison is None:
        return Kind.UNDECIDED
    if comparison.equal:
        return Kind.MATCHES
    if comparison.different:
        return Kind.DIFFERS_UP if comparison.difference > 0 else Kind.DIFFERS_DOWN
    return Kind.UNDECIDED
