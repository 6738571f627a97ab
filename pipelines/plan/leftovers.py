"""Finished trials that no report shows: their row was renamed or removed, or its recipe has changed.

Folders are listed; a record is read only if its folder belongs to no row. It is read as plain JSON, since its recipe
may hold settings that this version no longer knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dnw_core.config import RETIRED_FIELDS, Recipe, flatten
from dnw_core.files import read_json
from dnw_core.record import RECORD_FILE
from pipelines.plan.folder_data import DATASET
from pipelines.plan.planner import Plan, PlannedRow
from pipelines.plan.reported_rows import present_row
from pipelines.plan.rows import split_variant
from pipelines.store import WORK_SUFFIX, Store, folders_in, recipe_folders, seed_of
from tune_configs import SCALES, Table

_MOST_CHANGES = 3
_MOST_ROWS = 10
_OF_THE_FOLDER = ("data.content", "network.classes")  # filled in from the folder of images


@dataclass(frozen=True)
class Leftover:
    """The finished trials of one row and recipe that the tables no longer define."""

    table: str
    row: str
    fingerprint: str
    scale: str  # "" if the record does not say
    folders: tuple[Path, ...]  # below the results folder, one per seed
    changes: tuple[str, ...] | None  # differences from the row's recipe; None: there is no such row

    @property
    def name(self) -> str:
        """``table/row``."""
        return f"{self.table}/{self.row}"


def find_leftovers(store: Store, tables: dict[str, Table], plan: Plan, *, whole_tables: bool) -> list[Leftover]:
    """Return the trials in the store that belong to no row, or to an older recipe of a row, in the order of the names.

    A row that was not asked for is not a leftover, nor is one at another scale. Tables that were not asked for are
    skipped, unless they no longer exist.

    Args:
        store: the results.
        tables: all tables, completed for the plan's scale.
        plan: the plan, with the rows asked for.
        whole_tables: check all rows of the plan's tables, as the report does, not only those of the plan.
    """
    tables_asked = {row.table.id for row in plan.rows} | {row.table for row in plan.not_reproducible}
    asked = {(row.table.id, row.row.id) for row in plan.rows}
    found = []
    for trials in recipe_folders(store.results_dir):
        table, row, fingerprint = trials.parts[-3:]
        if table in tables and table not in tables_asked:
            continue
        base = split_variant(row)[0]
        today = present_row(tables, table, row, plan.scale)
        if today is None and (table not in tables or base not in tables[table].rows or row != base):
            scale, folders = _scale_of(trials), _finished(store.results_dir, trials)
            found.append(Leftover(table, row, fingerprint, scale, folders, None))
        elif (whole_tables or (table, base) in asked) and not _is_todays(tables, table, row, fingerprint):
            scale = _scale_of(trials)
            if scale in (plan.scale, ""):
                changes = tuple(_changes(_record_of(trials), table, row, today))
                found.append(Leftover(table, row, fingerprint, scale, _finished(store.results_dir, trials), changes))
    return [one for one in found if one.folders]


def leftover_lines(found: Sequence[Leftover]) -> list[str]:
    """Return a line about all trials of no row, and one for each recipe that a row no longer has."""
    lines = []
    lost: dict[str, int] = {}
    for one in found:
        if one.changes is None:
            lost[one.name] = lost.get(one.name, 0) + len(one.folders)
    if lost:
        count = sum(lost.values())
        names = [f"{name} ({number})" for name, number in lost.items()]
        shown = [*names[:_MOST_ROWS], *([f"and {len(names) - _MOST_ROWS} more"] if len(names) > _MOST_ROWS else [])]
        belong = "trial belongs" if count == 1 else "trials belong"
        lines.append(f"{count} finished {belong} to no row of these tables: {', '.join(shown)}")
    for one in found:
        if one.changes is not None:
            trials = f"{len(one.folders)} finished trial{'' if len(one.folders) == 1 else 's'}"
            more = f" and {len(one.changes) - _MOST_CHANGES} more" if len(one.changes) > _MOST_CHANGES else ""
            changes = "; ".join(one.changes[:_MOST_CHANGES]) + more
            lines.append(f"{one.name}: {trials} of another recipe: {changes}")
    return ["".join(letter if letter.isprintable() else "?" for letter in line) for line in lines]


def leftover_entries(found: Sequence[Leftover]) -> list[dict[str, Any]]:
    """Return an entry for each trial, as the report takes them."""
    return [
        {
            "table": one.table,
            "row": one.row,
            "fingerprint": one.fingerprint,
            "seed": seed_of(folder),
            "scale": one.scale,
            "has_row": one.changes is not None,
            "changes": list(one.changes or ()),
            "folder": folder.as_posix(),
        }
        for one in found
        for folder in one.folders
    ]


def unread_trials(store: Store) -> list[str]:
    """Return the folders of finished trials whose records this version cannot read, or that are another trial's."""
    read = {stored.folder for stored in store.records()}
    folders = (folder for trials in recipe_folders(store.results_dir) for folder in folders_in(trials))
    return [
        folder.relative_to(store.results_dir).as_posix()
        for folder in folders
        if _is_finished(folder) and folder not in read
    ]


def _finished(results_dir: Path, trials: Path) -> tuple[Path, ...]:
    folders = [folder for folder in folders_in(trials) if _is_finished(folder)]
    return tuple(folder.relative_to(results_dir) for folder in sorted(folders, key=lambda one: seed_of(one) or 0))


def _is_finished(folder: Path) -> bool:
    known = seed_of(folder) is not None and not folder.name.endswith(WORK_SUFFIX)
    return known and (folder / RECORD_FILE).is_file()


def _record_of(trials: Path) -> Mapping[str, Any]:
    """Return the first finished trial's record as it is; all have the same recipe."""
    for folder in folders_in(trials):
        values = read_json(folder / RECORD_FILE) if _is_finished(folder) else None
        if isinstance(values, dict):
            return values
    return {}


def _scale_of(trials: Path) -> str:
    scale = _record_of(trials).get("scale")
    return scale if scale in SCALES else ""


def _is_todays(tables: dict[str, Table], table: str, row: str, fingerprint: str) -> bool:
    present = (present_row(tables, table, row, scale) for scale in SCALES)
    return any(one is not None and one.fingerprint == fingerprint for one in present)


def _changes(record: Mapping[str, Any], table: str, row: str, today: PlannedRow | None) -> Iterator[str]:
    """Yield the differences between the recorded recipe and the row's."""
    recipe = record.get("recipe")
    if not isinstance(recipe, dict):
        yield "their records cannot be read"
        return
    if (record.get("table"), record.get("row")) != (table, row):
        yield f"their records are those of {record.get('table')}/{record.get('row')}"
    if today is None:
        yield "the row is not reproducible, and has no recipe"
        return
    before, unknown = _flat_recipe(recipe)
    after = flatten(today.recipe)
    open_folder = today.recipe.data.dataset == DATASET and today.recipe.data.content is None
    same = True
    for name in sorted({*before, *after}):
        own = name.removeprefix("parent.")
        if before.get(name, ...) == after.get(name, ...) or (open_folder and own in _OF_THE_FOLDER):
            continue
        same = False
        text = _change(name, before, after, unknown)
        yield f"{text} ({RETIRED_FIELDS[own]})" if own in RETIRED_FIELDS else text
    if same:
        yield "none of its settings; the folder was renamed or copied here"


def _change(name: str, before: Mapping[str, Any], after: Mapping[str, Any], unknown: Sequence[str]) -> str:
    if name in unknown:
        return f"{name} was {_text(before[name])}, and is no setting any more"
    if name not in before:
        return f"{name} is {_text(after[name])}, and was none"
    if name not in after:
        return f"{name} was {_text(before[name])}, and is none"
    return f"{name} was {_text(before[name])}, is {_text(after[name])}"


def _flat_recipe(recipe: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a recorded recipe's settings by their dotted names, and which of them this version does not know.

    Absent settings have their defaults: a later setting never changes what was trained before.
    """
    plain: dict[str, Any] = {}
    _walk(recipe, "", plain.__setitem__)
    values: Any = json.loads(json.dumps(recipe))
    taken: set[str] = set()
    while True:
        try:
            known = flatten(Recipe.model_validate_json(json.dumps(values)))
        except ValidationError as error:
            places = [line["loc"] for line in error.errors() if line["type"] == "extra_forbidden"]
            names = {name for place in places if (name := _take_out(values, place))}
            if not names:  # the recipe is invalid otherwise: no defaults then
                return plain, []
            taken |= names
        else:
            unknown = [name for name in plain if any(name == one or name.startswith(f"{one}.") for one in taken)]
            return {**known, **{name: plain[name] for name in unknown}}, unknown


def _take_out(values: Any, place: Sequence[int | str]) -> str:
    """Delete the value at a pydantic location, in which a union's branch looks like a key; return its dotted name."""
    *way, last = place
    names: list[str] = []
    for name in way:
        if isinstance(values, dict) and isinstance(values.get(str(name)), dict):
            values = values[str(name)]
            names.append(str(name))
    if not isinstance(values, dict) or last not in values:
        return ""
    del values[str(last)]
    return ".".join([*names, str(last)])


def _walk(value: Any, name: str, put: Callable[[str, Any], None]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _walk(inner, f"{name}.{key}" if name else str(key), put)
    else:
        put(name, value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
