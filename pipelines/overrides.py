"""``--set optimiser.learning_rate=0.05``: a row with a setting changed, typed by the recipe itself.

The result is a variant with a name of its own, ``<row>@key=value[,key=value]``. It is never a row of the paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dnw_core.config import flatten
from dnw_core.errors import UserError
from dnw_core.recipe import Recipe
from tune_configs.located import Located, parse_value
from tune_configs.needs import locate
from tune_configs.validation import DISCRIMINATORS, merge, nearest, validate

_KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_BETWEEN_PAIRS = re.compile(r",(?=[a-z][a-z0-9_.]*=)")
VARIANT_MARK = "@"
_PARENT = "parent"


@dataclass(frozen=True)
class Override:
    """One ``--set``: the dotted key and the value, not yet typed."""

    key: str
    value: Located


def parse_overrides(texts: Iterable[str]) -> tuple[Override, ...]:
    """Parse ``key=value`` texts.

    Raises:
        UserError: for a text of another form, or a key given twice.
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

    A section whose discriminator changes (``schedule.kind``) starts afresh. Other ``epochs`` take the schedule
    along, as a scale does, unless a setting of the schedule is given too. A parent's recipe changes along
    (``parent_overrides``).

    Raises:
        UserError: for an unknown key (the nearest one is named), a section, or a value of the wrong type.
    """
    overrides = tuple(overrides)
    values: dict[str, Any] = recipe.model_dump(mode="json")
    known = [name for name in flatten(recipe) if not _of_parent(name)]
    restarted = {_section(one.key) for one in overrides if one.key.rpartition(".")[2] in DISCRIMINATORS}
    for one in overrides:
        if _of_parent(one.key):
            raise UserError(
                f"--set {one.key}: the row that is needed gets the same settings by itself, but for wiring.*; "
                "to change it alone, train it by its own name"
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
    """Return what applies to the parent of a changed row too: everything but its wiring.

    A lottery ticket in bf16 comes from a complete graph in bf16; its density is no matter of the complete graph's.
    """
    return tuple(one for one in overrides if not one.key.startswith("wiring."))


def _changed_parent(parent: Recipe, overrides: Iterable[Override]) -> Recipe:
    try:
        return apply_overrides(parent, parent_overrides(overrides))
    except UserError as error:
        raise UserError(f"{error} (in the recipe of the row that is needed)") from None


def _validate(laid: Located) -> Recipe:
    try:
        return validate(Recipe, laid)
    except UserError as error:  # what is wrong with the recipe as a whole has no key, and no table around it here
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
