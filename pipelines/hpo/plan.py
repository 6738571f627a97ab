"""A search, laid out: which configurations there are, and how each stands in the search's own store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from dnw_core.config import Recipe, fingerprint, flatten
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from dnw_core.record import TrialRecord
from pipelines.hpo.curve import read_curve, read_stopped
from pipelines.plan import VARIANT_MARK, Override, Placement, variant_name
from pipelines.spec import TrialSpec
from pipelines.store import Store, check_name
from tune_configs import Row, Scale, Table
from tune_configs.located import Located
from tune_configs.search_space import Dimension, SearchBudget, training_images, with_values

FOLDER = "search"  # below the results folder
VALIDATION = "data.validation_images"
Standing = Literal["finished", "stopped", "failed", "partial", "new"]
_LONGEST_NAME = 150


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
    def identity(self) -> str:
        """What is searched, whatever the number of configurations."""
        return f"search/{self.name}/{self.scale}/{space_digest(self.name, self.space, self.seed)[:8]}"

    @property
    def epochs(self) -> int:
        """Epochs of a configuration that is not given up."""
        return self.configurations[0].spec.recipe.epochs

    @property
    def first_rung(self) -> int:
        """Epochs before the first choice."""
        return max(1, round(self.budget.first_rung_fraction * self.epochs))

    @property
    def images(self) -> int:
        """Images that a configuration is trained on in an epoch, without those held out."""
        return training_images(self.configurations[0].spec.recipe)


@dataclass(frozen=True)
class Judged:
    """How a configuration stands in the store."""

    configuration: Configuration
    standing: Standing
    epochs_done: int
    seconds: float  # of training so far
    accuracy: float | None = None  # validation accuracy after the last epoch (a fraction), of finished and stopped ones
    reason: str | None = None
    damaged: str | None = None
    record: TrialRecord | None = None


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
        scale: at which its recipe is taken.
        seed: of the draws, and of every configuration's training.
        trials: how many configurations; the row's own number by default.
        placement: where and how they are trained.
        results_dir: the results folder; the search lies in ``search/<table>/<row>`` below it.
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
        places = {key: Override(key, Located(value, key, key)) for key, value in values.items()}
        name = variant_name(row.id, changed, places.values())
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


def judge(search: Search, store: Store) -> list[Judged]:
    """Return how every configuration stands, in order."""
    states = store.states([one.spec for one in search.configurations])
    judged = []
    for configuration, state in zip(search.configurations, states, strict=True):
        stopped = read_stopped(store.folder(configuration.spec)) if state.kind == "partial" else None
        if state.record is not None and state.record.last is not None:
            accuracy = state.record.last.test_accuracy  # the held-out images stand in for the test images
            seconds = state.record.train_seconds
            judged.append(Judged(configuration, "finished", state.epochs_done, seconds, accuracy, record=state.record))
            continue
        seconds = sum(line.seconds for line in read_curve(store.folder(configuration.spec)).epochs)
        if stopped is not None:
            judged.append(
                Judged(configuration, "stopped", stopped.epoch, seconds, stopped.accuracy, damaged=state.damaged)
            )
        else:
            standing: Standing = "failed" if state.kind == "failed" else "partial" if state.epochs_done else "new"
            judged.append(
                Judged(configuration, standing, state.epochs_done, seconds, reason=state.reason, damaged=state.damaged)
            )
    return judged


def ranking(judged: list[Judged]) -> list[Judged]:
    """Return those with an accuracy, best first: the finished ones, then the stopped ones, furthest first.

    Ties go to the configuration that was drawn earlier.
    """
    scored = [one for one in judged if one.accuracy is not None]
    return sorted(
        scored,
        key=lambda one: (one.standing != "finished", -one.epochs_done, -(one.accuracy or 0.0), one.configuration.index),
    )


def _names_a_folder(name: str) -> bool:
    try:
        check_name(name, "row")
    except UserError:
        return False
    return len(name) <= _LONGEST_NAME


_ATTEMPTS = 200  # in a row, before the space is taken to be used up
_DIGITS = 4


def draw(row: str, recipe: Recipe, space: Mapping[str, Dimension], seed: int, count: int) -> list[dict[str, Any]]:
    """Return ``count`` different configurations that the recipe takes, the recipe's present values first.

    Args:
        row: ``table/row``.
        recipe: the row's recipe.
        space: dotted setting -> its values.
        seed: another one draws other configurations.
        count: how many; fewer come back where the space has no more.
    """
    present = {key: flatten(recipe)[key] for key in sorted(space)}
    found = {_text(present): present}
    uniform = _generator(row, space, seed)
    failures = 0
    while len(found) < count and failures < _ATTEMPTS:
        values = {key: draw_value(space[key], next(uniform)) for key in sorted(space)}
        if _text(values) in found or not _accepted(recipe, values):
            failures += 1
            continue
        failures = 0
        found[_text(values)] = values
    return list(found.values())


def draw_value(dimension: Dimension, share: float) -> Any:
    """Return the value at ``share`` (in [0, 1)) of a dimension; real numbers with four digits, to be read and typed."""
    values = dimension.values
    if dimension.kind == "choice":
        return values[int(share * len(values))]
    low, high = values
    if dimension.kind == "integers":
        return low + int(share * (high - low + 1))
    if dimension.kind == "log_uniform":
        exact = low * math.exp(share * math.log(high / low))
    else:
        exact = low + share * (high - low)
    rounded = float(f"{exact:.{_DIGITS}g}")
    return rounded if low <= rounded <= high else exact


def space_digest(row: str, space: Mapping[str, Dimension], seed: int) -> str:
    """Return the hash (hexadecimal) that stands for a row, a space and a seed."""
    described = {key: dimension.model_dump(mode="json", exclude_none=True) for key, dimension in space.items()}
    return hashlib.sha256(json.dumps([row, described, seed], sort_keys=True).encode("utf-8")).hexdigest()


def _generator(row: str, space: Mapping[str, Dimension], seed: int) -> Iterator[float]:
    import numpy as np

    random: Callable[[], float] = np.random.default_rng(int(space_digest(row, space, seed), 16)).random
    while True:
        yield float(random())


def _accepted(recipe: Recipe, values: Mapping[str, Any]) -> bool:
    try:
        with_values(recipe, values)
    except ValidationError:  # two settings that do not go together
        return False
    return True


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
