"""The rows that a command selects, their seeds, and variants of rows.

``--set optimiser.learning_rate=0.05`` makes a variant with a name of its own, ``<row>@key=value[,key=value]``, typed by
the recipe. A variant is never a row of the paper.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dnw_core.config import Recipe, flatten
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from tune_configs import Row, Table
from tune_configs.located import Located, parse_value
from tune_configs.needs import locate
from tune_configs.validation import DISCRIMINATORS, merge, validate

_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_BETWEEN_PAIRS = re.compile(r",(?=[a-z][a-z0-9_.]*=)")
VARIANT_MARK = "@"
MOST_SEEDS = 1000
_PARENT = "parent"


@dataclass(frozen=True)
class Override:
    """One ``--set``: the dotted key and the value, not typed yet."""

    key: str
    value: Located


def parse_overrides(texts: Iterable[str]) -> tuple[Override, ...]:
    """Parse ``key=value`` texts.

    Raises:
        UserError: for a text of another form, or a repeated key.
    """
    found: dict[str, Override] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not _KEY.fullmatch(key):
            raise UserError(f"--set {text!r} is not key=value; for example --set optimiser.learning_rate=0.05")
        if key in found:
            raise UserError(f"--set {key} is given twice; give it once")
        found[key] = Override(key, parse_value(value, f"--set {key}"))
    return tuple(found.values())


def apply_overrides(recipe: Recipe, overrides: Iterable[Override]) -> Recipe:
    """Return the recipe with the settings changed.

    A section whose discriminator changes (``schedule.kind``) starts from its defaults. Changed ``epochs`` stretch the
    schedule, as a scale does, unless a setting of the schedule is given too. The parent's recipe changes as well
    (``parent_overrides``).

    Raises:
        UserError: for an unknown key (naming the nearest one), a section, or a value of the wrong type.
    """
    overrides = tuple(overrides)
    values: dict[str, Any] = recipe.model_dump(mode="json")
    known = [name for name in flatten(recipe) if not _of_parent(name)]
    restarted = {_section(one.key) for one in overrides if one.key.rpartition(".")[2] in DISCRIMINATORS}
    for one in overrides:
        if _of_parent(one.key):
            raise UserError(
                f"--set {one.key}: the parent row gets the same settings, except for wiring.*; "
                "to change it alone, name it with --only"
            )
        if any(name.startswith(one.key + ".") for name in known):
            inside = ", ".join(name for name in known if name.startswith(one.key + "."))
            raise UserError(f"--set {one.key} names a section; set one of {inside}")
        if one.key not in known and _section(one.key) not in restarted:
            raise UserError(f"--set {one.key}: unknown key{nearest(one.key, known)}")
    if recipe.parent is not None:
        values[_PARENT] = _changed_parent(recipe.parent, overrides).model_dump(mode="json")
    stretched = {one.key for one in overrides} >= {"epochs"} and not any(
        one.key.startswith("schedule.") for one in overrides
    )
    laid = merge(locate(values, "--set"), _nest(one for one in overrides if not (stretched and one.key == "epochs")))
    changed = _validate(laid)
    if not stretched:
        return changed
    wanted = next(one for one in overrides if one.key == "epochs")
    epochs = _validate(merge(laid, _nest([wanted]))).epochs  # typed before it is used
    return changed.with_epochs(epochs)


def variant_name(row_id: str, recipe: Recipe, overrides: Iterable[Override]) -> str:
    """Return ``<row>@key=value,...`` with sorted keys and the values as the changed recipe holds them."""
    flat = flatten(recipe)
    pairs = [f"{key}={_text(flat[key])}" for key in sorted(one.key for one in overrides)]
    return row_id + VARIANT_MARK + ",".join(pairs) if pairs else row_id


def split_variant(row_id: str) -> tuple[str, list[str]]:
    """Return the base row and the ``key=value`` texts of a variant's name (none for a plain row)."""
    base, mark, pairs = row_id.partition(VARIANT_MARK)
    return base, _BETWEEN_PAIRS.split(pairs) if mark else []


def parent_overrides(overrides: Iterable[Override]) -> tuple[Override, ...]:
    """Return the overrides that also apply to the row's parent: all except for its wiring.

    A lottery ticket in bf16 starts from a complete graph in bf16, whatever the ticket's density.
    """
    return tuple(one for one in overrides if not one.key.startswith("wiring."))


def _changed_parent(parent: Recipe, overrides: Iterable[Override]) -> Recipe:
    try:
        return apply_overrides(parent, parent_overrides(overrides))
    except UserError as error:
        raise UserError(f"{error} (in the recipe of the parent row)") from None


def _validate(laid: Located) -> Recipe:
    try:
        return validate(Recipe, laid)
    except UserError as error:  # an error of the whole recipe has no key, and there is no table here
        raise UserError(str(error).replace("--set: the table: ", "--set: ", 1)) from None


def _of_parent(key: str) -> bool:
    return key.partition(".")[0] == _PARENT


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _nest(overrides: Iterable[Override]) -> Located:
    root = Located({}, "--set", "--set")
    for one in overrides:
        *sections, last = one.key.split(".")
        node = root
        for name in sections:
            node = node.value.setdefault(name, Located({}, one.value.where, one.value.where))
        node.value[last] = one.value
    return root


def select_rows(
    tables: dict[str, Table], *, only: Sequence[str] = (), table_ids: Sequence[str] = (), extra: bool = True
) -> list[Row]:
    """Return the selected rows, in the order of the tables.

    Args:
        tables: all tables.
        only: patterns of ``table/row`` (shell wildcards); a row is selected if any of them matches.
        table_ids: the tables to select from; all by default.
        extra: whether to select extra rows.

    Raises:
        UserError: for an unknown table, a pattern that matches nothing (naming the nearest row), or if nothing is
            left without extra rows.
    """
    for name in table_ids:
        if name not in tables:
            raise UserError(f"--table: there is no table {name!r}{nearest(name, tables)}")
    candidates = [
        row
        for table in tables.values()
        if not table_ids or table.id in table_ids
        for row in table.rows.values()
        if extra or not row.extra
    ]
    if not candidates:
        raise UserError(f"--no-extra leaves nothing: all rows of {', '.join(table_ids or tables)} are extra rows")
    for pattern in only:
        _check_pattern(pattern, candidates, tables)
    return [row for row in candidates if not only or any(_matches(row, pattern) for pattern in only)]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse ``5`` (seeds 0 to 4) or ``0,1,2`` (these seeds; ``7,`` is a single one).

    Raises:
        UserError: if it is neither, or a seed is repeated.
    """
    parts = [part.strip() for part in text.strip().removesuffix(",").split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UserError(f"--seeds {text!r} is neither a number of seeds (5) nor a list of seeds (0,1,2)")
    numbers = [int(part) for part in parts]
    if "," not in text:
        if not 1 <= numbers[0] <= MOST_SEEDS:
            raise UserError(
                f"--seeds {text} is not between 1 and {MOST_SEEDS}; for the single seed {text} write '{text},'"
            )
        return tuple(range(numbers[0]))
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {text!r} names a seed twice; name each once")
    return tuple(sorted(numbers))


def seeds_text(seeds: Sequence[int]) -> str:
    """Return the shortest ``--seeds`` for these seeds."""
    if list(seeds) == list(range(len(seeds))):
        return str(len(seeds))
    return ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")


def _matches(row: Row, pattern: str) -> bool:
    return fnmatch.fnmatchcase(f"{row.table}/{row.id}", pattern)


def _check_pattern(pattern: str, candidates: list[Row], tables: dict[str, Table]) -> None:
    if VARIANT_MARK in pattern:
        raise UserError(f"--only {pattern!r} is a variant; name its row and give the settings with --set")
    if any(_matches(row, pattern) for row in candidates):
        return
    names = [f"{row.table}/{row.id}" for row in candidates]
    everywhere = [f"{row.table}/{row.id}" for table in tables.values() for row in table.rows.values()]
    if any(fnmatch.fnmatchcase(name, pattern) for name in everywhere):
        raise UserError(f"--only {pattern!r} matches only rows that --table or --no-extra leave out")
    raise UserError(f"--only {pattern!r} matches no row{nearest(pattern, names)}")
