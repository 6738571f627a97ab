"""Reads the tables: one YAML file each, every row laid together and validated at every scale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dnw_core.config import Recipe
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from tune_configs.include import Included, read_include
from tune_configs.located import Located, parse_yaml, read_yaml
from tune_configs.needs import Need, RowName, refuse_written_parent, resolve_needs
from tune_configs.scales import SCALES, Scale
from tune_configs.schema import Row, RowFile, RowResources, ScaleFile, Table, TableFile
from tune_configs.search_space import SearchSettings, check_search, parse_search
from tune_configs.validation import merge, validate

_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")  # a table's or row's id names a folder


@dataclass(frozen=True)
class _TableText:
    """A table file, read but not yet laid together."""

    head: TableFile
    root: Located
    bodies: dict[str, tuple[RowFile, Located]]
    folder: Path


def load_tables(folder: Path | None = None) -> dict[str, Table]:
    """Read every table file of a folder (by default the ones that come with this package).

    Returns:
        table id -> table, in the order of the files' names; rows in the order of the file.

    Raises:
        UserError: naming file, line, and what would be right.
    """
    folder = folder or Path(__file__).parent
    texts: dict[str, _TableText] = {}
    for path in sorted(folder.glob("*.yaml")):
        text = _read_table(path)
        if text.head.id != path.stem:
            raise UserError(f"{path.name}: id is {text.head.id!r}; it must be the file's name, {path.stem!r}")
        texts[text.head.id] = text
    if not texts:
        raise UserError(f"{folder}: there is no table (*.yaml) here")
    return _build_tables(texts)


def load_table(path: Path) -> Table:
    """Read one table file by itself: its rows can need rows of the same table only.

    Raises:
        UserError: naming file, line, and what would be right.
    """
    text = _read_table(path)
    return _build_tables({text.head.id: text})[text.head.id]


def _read_table(path: Path) -> _TableText:
    try:
        text = read_yaml(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    root = parse_yaml(text, path.name)
    head = validate(TableFile, root)
    _check_name(head.id, _entry(root, "id"), "table")
    bodies: dict[str, tuple[RowFile, Located]] = {}
    for row_id, located in _entry(root, "rows").value.items():
        _check_name(row_id, located, "row")
        bodies[row_id] = (validate(RowFile, located, f"row {row_id}"), located)
    return _TableText(head, root, bodies, path.parent)


def _build_tables(texts: Mapping[str, _TableText]) -> dict[str, Table]:
    """Lay every row together, parents before the rows that need them."""
    needs = resolve_needs(
        {(table, row): _asked_parent(text, row) for table, text in texts.items() for row in text.bodies}
    )
    built: dict[RowName, Row] = {}

    def build(name: RowName) -> Row:
        if name not in built:
            need = needs.get(name)
            built[name] = _build_row(texts[name[0]], name[1], need, build(need.parent) if need else None)
        return built[name]

    return {
        table: Table(table, text.head.title, text.head.source, text.head.default_seeds, rows)
        for table, text in texts.items()
        for rows in [{row: build((table, row)) for row in text.bodies}]
    }


def _asked_parent(text: _TableText, row_id: str) -> Located | None:
    """Return what the row says after ``needs``, else what the row that it corrects says."""
    corrected = _corrected_row(text.bodies, row_id)
    for name in (row_id, corrected):
        if name is not None and text.bodies[name][0].needs is not None:
            return _entry(text.bodies[name][1], "needs")
    return None


def _build_row(text: _TableText, row_id: str, need: Need | None, parent: Row | None) -> Row:
    head, root, bodies = text.head, text.root, text.bodies
    body = bodies[row_id][0]
    corrected = _corrected_row(bodies, row_id)
    names = [row_id] if corrected is None else [corrected, row_id]
    rows = [bodies[name][1] for name in names]
    search = _read_search(rows, names)
    included = [_read_include(row, name, search, text.folder) for row, name in zip(rows, names, strict=True)]
    own = [_own_recipe(row, file) for row, file in zip(rows, included, strict=True)]
    recipes: dict[Scale, Recipe] = {}
    resources: dict[Scale, RowResources] = {}
    for scale in SCALES if body.not_reproducible is None else ():
        at_scale = [entry for source in (root, *rows) if (entry := _at_scale(source, scale)) is not None]
        laid = _entry(root, "recipe")
        for section in (*own, *(entry.get("recipe") for entry in at_scale)):
            laid = merge(laid, section)
        refuse_written_parent(laid, f"row {row_id}")
        if need is not None and parent is not None:
            laid = need.lay(laid, parent.recipe_at(scale))
        full = _validate_recipe(laid, rows[-1].key_where, f"row {row_id}, scale {scale}")
        nearest_first = [bodies[name][0].scales.at(scale) for name in reversed(names)] + [head.scales.at(scale)]
        recipes[scale] = _compress(full, nearest_first)
        asked = [settings.resources for settings in nearest_first if settings.resources is not None]
        resources[scale] = asked[0] if asked else RowResources()
    return Row(
        table=head.id,
        id=row_id,
        label=body.label,
        published=body.published,
        extra=body.extra,
        corrects=body.corrects,
        notes=(*body.notes, *(file.sentence(recipes["paper"]) for file in included if file is not None)),
        recipes=recipes,
        resources=resources,
        search=_check_search(search, recipes, row_id),
        included=next((file.name for file in reversed(included) if file is not None), None),
        not_reproducible=body.not_reproducible,
        parent_row=need.name if need is not None else None,
    )


def _validate_recipe(laid: Located, where: str, subject: str) -> Recipe:
    """Build a row's recipe. What is wrong with it as a whole is named at the row, whatever section came last."""
    try:
        return validate(Recipe, Located(laid.value, where, where), subject)
    except UserError as error:
        raise UserError(str(error).replace(f"{where}: the table: ", f"{where}: ", 1)) from None


def _corrected_row(bodies: dict[str, tuple[RowFile, Located]], row_id: str) -> str | None:
    body, located = bodies[row_id]
    if body.corrects is None:
        return None
    where = _entry(located, "corrects").where
    if body.corrects not in bodies:
        hint = nearest(body.corrects, bodies)
        raise UserError(f"{where}: row {row_id} corrects an unknown row {body.corrects!r}{hint}")
    if bodies[body.corrects][0].corrects is not None:
        raise UserError(f"{where}: row {row_id} corrects {body.corrects}, which corrects a row itself; name that one")
    return body.corrects


def _read_search(rows: list[Located], names: list[str]) -> tuple[SearchSettings, Located] | None:
    """Return the row's own search, else that of the row it corrects."""
    for row, name in zip(reversed(rows), reversed(names), strict=True):
        section = row.get("search")
        if section is not None and section.value is not None:
            return parse_search(section, f"row {name}"), section
    return None


def _check_search(
    search: tuple[SearchSettings, Located] | None, recipes: dict[Scale, Recipe], row_id: str
) -> SearchSettings | None:
    if search is None:
        return None
    settings, section = search
    check_search(settings, section, recipes, f"row {row_id}")
    return settings


def _read_include(
    row: Located, name: str, search: tuple[SearchSettings, Located] | None, folder: Path
) -> Included | None:
    entry = row.get("include")
    if entry is None or entry.value is None:
        return None
    if search is None:
        raise UserError(f"{entry.key_where}: row {name} includes values of a search but has no search section")
    return read_include(entry, folder, search[0].space, f"row {name}")


def _own_recipe(row: Located, included: Included | None) -> Located | None:
    """Return the row's recipe over the values that it includes."""
    recipe = row.get("recipe")
    return recipe if included is None else merge(included.recipe, recipe)


def _compress(recipe: Recipe, nearest_first: list[ScaleFile]) -> Recipe:
    for settings in nearest_first:
        if settings.epochs is not None:
            return recipe.with_epochs(settings.epochs)
        if settings.epochs_fraction is not None:
            return recipe.with_epochs(max(1, round(recipe.epochs * settings.epochs_fraction)))
    return recipe


def _at_scale(source: Located, scale: Scale) -> Located | None:
    scales = source.get("scales")
    return scales.get(scale) if scales is not None else None


def _entry(located: Located, key: str) -> Located:
    entry = located.get(key)
    assert entry is not None, key
    return entry


def _check_name(name: str, located: Located, kind: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{located.key_where}: {kind} id {name!r} names a folder; use small letters, digits, dots, hyphens"
        )
