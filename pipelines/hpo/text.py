"""What ``search.py`` prints and mirrors: the space, the budget, the configurations, the ranking. Plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dnw_core.record import TrialRecord
from pipelines.hpo.halving import Round, Status, ranking
from pipelines.hpo.plan import Search
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
    *rungs, _ = map(str, search.rungs)
    halving = "every configuration is trained to the end"
    if rungs:
        halving = (
            f"successive halving: after {' and '.join(rungs)} of {search.epochs} epochs the best 1 in "
            f"{search.budget.reduction_factor:g} goes on"
        )
    lines = [f"search {search.name}, scale {search.scale}, seed {search.seed}"]
    lines += [f"  {line}" for line in (*columns(cells), budget, halving)]
    return [*lines, f"  {SMOKE}"] if search.scale == "smoke" else lines


def plan_lines(
    search: Search, statuses: Sequence[Status], following: Round, history: Iterable[TrialRecord]
) -> list[str]:
    """Return every configuration, its state, and the time that the rest takes at most.

    Args:
        search: the search.
        statuses: of its configurations.
        following: the round that comes next.
        history: finished trials to estimate from.
    """
    estimator = Estimator.from_records(history)
    cells = [("configuration", "fingerprint", "state", "epochs done")]
    for one in statuses:
        mark = one.configuration.spec.fingerprint
        cells.append((str(one.configuration), mark, one.standing, f"{one.epochs_done}/{search.epochs}"))
    spec, epochs = search.configurations[0].spec, following.epochs_left
    seconds = estimator.seconds(spec.recipe, epochs, spec.execution)
    left = sum(not one.has_ended for one in statuses)
    total = f"{left} to be trained: at most {epochs} epochs, {duration(seconds)} one after another"
    if left and not estimator.knows(spec.recipe, spec.execution):
        total += " (a rough guess until one has finished)"
    return [*space_lines(search), "", *columns(cells), "", total]


def result_lines(search: Search, statuses: Sequence[Status], path: Path) -> list[str]:
    """Return the ranking and the winner, whose settings are in ``path``."""
    ranked = ranking(statuses)
    cells = [("", "validation accuracy %", "epochs", "configuration")]
    for place, one in enumerate(ranked[:_MOST_RANKED], start=1):
        epochs = f"{one.epochs_done}/{search.epochs}"
        cells.append((str(place), f"{100 * (one.accuracy or 0.0):.2f}", epochs, str(one.configuration)))
    lines = [*columns(cells), counts_line(statuses), f"winner: {ranked[0].configuration}", f"written to {path}"]
    return [*lines, SMOKE] if search.scale == "smoke" else lines


def counts_line(statuses: Sequence[Status]) -> str:
    """Return how the configurations ended, the epochs that were trained and the time they took."""
    counts = Counter(one.standing for one in statuses)
    shown = ", ".join(f"{counts[name]} {name}" for name in ("finished", "stopped", "failed") if counts[name])
    left = counts["partial"] + counts["new"]
    text = f"{len(statuses)} configurations: {shown or 'none ended'}" + (f", {left} left" if left else "")
    seconds = sum(one.seconds for one in statuses)
    return f"{text}; {sum(one.epochs_done for one in statuses)} epochs in {duration(seconds)} of training"


def tracker_rows(search: Search, command: str) -> list[dict[str, Any]]:
    """Return the configurations as rows for ``Tracker.sync``; ``command`` goes on with the search."""
    images = search.budget.validation_images
    return [
        {
            "table": search.row.table,
            "table_title": f"Search for hyper-parameters of {search.name} on held-out training images",
            "row": one.spec.row,
            "label": f"{search.row.label} with {one}",
            "extra": True,
            "variant": True,
            "notes": [f"Accuracies are those on {images} held-out training images; the test images are not touched."],
            "fingerprint": one.spec.fingerprint,
            "seeds": (search.seed,),
            "epochs": search.epochs,
            "scale": search.scale,
            "command": command,
        }
        for one in search.configurations
    ]
