"""The configurations of a search, drawn from its space: the same ones for the same row, space and seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from dnw_core.config import Recipe, flatten
from tune_configs.search_space import Dimension, with_values

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
    """Return the hexadecimal hash that identifies a row, a space and a seed."""
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
