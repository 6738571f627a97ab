"""A search, laid out: the configurations to be tried, each as an ordinary trial, and the epochs of its rungs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnw_core.config import fingerprint
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from pipelines.hpo.draw import draw
from pipelines.plan import VARIANT_MARK, Override, Placement, variant_name
from pipelines.spec import TrialSpec
from pipelines.store import check_name
from tune_configs import Row, Scale, Table
from tune_configs.located import Located
from tune_configs.search_space import Dimension, SearchBudget, training_images, with_values

FOLDER = "search"  # below the results folder
VALIDATION = "data.validation_images"
_LONGEST_NAME = 150
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Configuration:
    """One point of the space, as a trial."""

    index: int  # 0 is the row's present values
    values: Mapping[str, Any]
    spec: TrialSpec

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.values.items())


@dataclass(frozen=True)
class Search:
    """One row's search at one scale."""

    row: Row
    scale: Scale
    seed: int
    space: Mapping[str, Dimension]
    budget: SearchBudget
    configurations: tuple[Configuration, ...]
    results_dir: Path  # the search's own

    @property
    def name(self) -> str:
        """``table/row``."""
        return f"{self.row.table}/{self.row.id}"

    @property
    def epochs(self) -> int:
        """Epochs of a configuration that is trained to the end."""
        return self.configurations[0].spec.recipe.epochs

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs to which each round trains its configurations; the last rung is the whole recipe."""
        factor, found = self.budget.reduction_factor, []
        rung: float = max(1, round(self.budget.first_rung_fraction * self.epochs))
        while (epochs := math.ceil(rung - _ROUNDING)) < self.epochs:
            found.append(epochs)
            rung *= factor
        return (*dict.fromkeys(found), self.epochs)

    @property
    def images(self) -> int:
        """Images that a configuration is trained on in an epoch, without those held out."""
        return training_images(self.configurations[0].spec.recipe)

    def survivors(self, count: int) -> int:
        """Return how many of ``count`` configurations go on from a rung."""
        return math.ceil(count / self.budget.reduction_factor - _ROUNDING)


def find_row(tables: Mapping[str, Table], name: str) -> Row:
    """Return the row ``table/row`` whose search is meant.

    Raises:
        UserError: if there is none of that name, or it declares no search.
    """
    rows = {f"{row.table}/{row.id}": row for table in tables.values() for row in table.rows.values()}
    if name not in rows:
        raise UserError(f"--row: there is no row {name!r}{nearest(name, rows)}")
    if rows[name].search is None:
        searchable = [known for known, row in rows.items() if row.search is not None]
        others = f"; rows that do: {', '.join(searchable)}" if searchable else ""
        raise UserError(f"--row: {name} declares no search: section in its table file{others}")
    return rows[name]


def plan_search(
    row: Row, scale: Scale, *, seed: int, trials: int | None, placement: Placement, results_dir: Path
) -> Search:
    """Lay out a row's search.

    Args:
        row: a row with a search.
        scale: the scale of its recipe.
        seed: of the draws, and of every configuration's training.
        trials: how many configurations; the row's own number by default.
        placement: where and how they are trained.
        results_dir: the results folder; the search's own is ``search/<table>/<row>`` below it.
    """
    assert row.search is not None
    budget = row.search.budgets[scale]
    own = results_dir / FOLDER / row.table / row.id
    recipe, asked = row.recipe_at(scale), row.resources_at(scale)
    search_name = f"{row.table}/{row.id}"
    drawn = draw(search_name, recipe, row.search.space, seed, trials or budget.trials)
    configurations = []
    for index, values in enumerate(drawn):
        changed = with_values(recipe, {**values, VALIDATION: budget.validation_images})
        mark = fingerprint(changed)
        name = variant_name(row.id, changed, [Override(key, Located(value, key, key)) for key, value in values.items()])
        spec = TrialSpec(
            table=row.table,
            row=name if _names_a_folder(name) else f"{row.id}{VARIANT_MARK}{mark}",
            seed=seed,
            scale=scale,
            fingerprint=mark,
            recipe=changed,
            execution=placement.execution(search_name, asked, changed),
            resources=placement.resources(search_name, asked, changed),
            results_dir=own,
        )
        configurations.append(Configuration(index, values, spec))
    return Search(row, scale, seed, row.search.space, budget, tuple(configurations), own)


def _names_a_folder(name: str) -> bool:
    try:
        check_name(name, "row")
    except UserError:
        return False
    return len(name) <= _LONGEST_NAME
