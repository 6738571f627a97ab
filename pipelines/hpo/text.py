"""What ``search.py`` prints: the space, the budget, how the configurations stand, the ranking. Plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dnw_core.record import TrialRecord
from pipelines.hpo.plan import Judged, Search, ranking
from pipelines.plan import Estimator
from pipelines.text import columns, duration

SMOKE = "scale smoke proves that the search runs; the values it finds mean nothing"
_MOST_RANKED = 5


def space_lines(search: Search) -> list[str]:
    """Return the space and the budget."""
    present = search.configurations[0].values
    cells = [(key, str(search.space[key]), f"now {present[key]}") for key in sorted(search.space)]
    count = len(search.configurations)
    budget = (
        f"{count} configurations of {search.epochs} epochs on {search.images} images, scored on "
        f"{search.budget.validation_images} held-out training images; the test images are not touched"
    )
    first, factor = search.first_rung, search.budget.reduction_factor
    rungs = f"ASHA: the first choice after {first} of {search.epochs} epochs, then about 1 of {factor:g} goes on"
    lines = [f"search {search.name}, scale {search.scale}, seed {search.seed}"]
    lines += [f"  {line}" for line in (*columns(cells), budget, rungs)]
    return [*lines, f"  {SMOKE}"] if search.scale == "smoke" else lines


def plan_lines(search: Search, judged: Sequence[Judged], history: Iterable[TrialRecord]) -> list[str]:
    """Return every configuration, how it stands, and how long the rest takes at most.

    Args:
        search: the search.
        judged: how its configurations stand.
        history: finished trials to estimate from.
    """
    estimator = Estimator.from_records(history)
    cells = [("configuration", "fingerprint", "state", "epochs done")]
    for one in judged:
        mark = one.configuration.spec.fingerprint
        cells.append((str(one.configuration), mark, one.standing, f"{one.epochs_done}/{search.epochs}"))
    left = [one for one in judged if one.standing in ("partial", "new")]
    seconds = sum(
        estimator.seconds(spec.recipe, search.epochs - one.epochs_done, spec.execution)
        for one in left
        for spec in (one.configuration.spec,)
    )
    epochs = sum(search.epochs - one.epochs_done for one in left)
    total = f"{len(left)} to be trained: at most {epochs} epochs, {duration(seconds)} one after another"
    if left and not estimator.knows(left[0].configuration.spec.recipe, left[0].configuration.spec.execution):
        total += " (a rough guess until one has finished)"
    return [*space_lines(search), "", *columns(cells), "", total]


def result_lines(search: Search, judged: Sequence[Judged], path: Path) -> list[str]:
    """Return the ranking and the winner, whose settings lie in ``path``."""
    ranked = ranking(list(judged))
    cells = [("", "validation accuracy %", "epochs", "configuration")]
    for place, one in enumerate(ranked[:_MOST_RANKED], start=1):
        assert one.accuracy is not None
        epochs = f"{one.epochs_done}/{search.epochs}"
        cells.append((str(place), f"{100 * one.accuracy:.2f}", epochs, str(one.configuration)))
    lines = [*columns(cells), counts_line(judged), f"winner: {ranked[0].configuration}", f"written to {path}"]
    return [*lines, SMOKE] if search.scale == "smoke" else lines


def counts_line(judged: Sequence[Judged]) -> str:
    """Return how the configurations ended, the epochs that were trained and the time they took."""
    counts = Counter(one.standing for one in judged)
    shown = ", ".join(f"{counts[name]} {name}" for name in ("finished", "stopped", "failed") if counts[name])
    left = counts["partial"] + counts["new"]
    text = f"{len(judged)} configurations: {shown or 'none ended'}" + (f", {left} left" if left else "")
    seconds = sum(one.seconds for one in judged)
    return f"{text}; {sum(one.epochs_done for one in judged)} epochs in {duration(seconds)} of training"
