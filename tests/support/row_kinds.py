"""The rows that differ in kind, of which ``.ci/run`` trains one each: ``python tests/support/row_kinds.py``.

Two rows are of one kind where their recipes, at the scale that is trained and at the paper's, differ in numbers only
(density, width, learning rate, epochs): the same code trains them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dnw_core.config import Recipe
from tune_configs import Row, Table, load_tables


def kind_of(row: Row) -> tuple[Any, ...]:
    """Return what makes code run: every setting that is not a number, and which numbers are set at all."""
    return tuple(_settings(row.recipe_at(scale)) for scale in ("smoke", "paper"))


def one_of_each_kind(tables: Iterable[Table]) -> list[Row]:
    """Return the first row of each kind, in the order of the tables; what cannot be trained is left out."""
    found: dict[tuple[Any, ...], Row] = {}
    for table in tables:
        for row in table.rows.values():
            if row.not_reproducible is None:
                found.setdefault(kind_of(row), row)
    return list(found.values())


def _settings(recipe: Recipe) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(_leaves(recipe.model_dump(mode="json"))))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", "a number"
        else:
            yield f"{prefix}{name}", str(value)


if __name__ == "__main__":
    print(" ".join(f"--only {row.table}/{row.id}" for row in one_of_each_kind(load_tables().values())))
