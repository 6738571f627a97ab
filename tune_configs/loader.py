"""Reads the tables: one YAML file each, every row laid together and validated at every scale."""

from __future__ import annotations

import re
from pathlib import Path

from dnw_core.errors import UserError
from dnw_core.recipe import Recipe
from tune_configs.located import Located, parse_yaml
from tune_configs.schema import SCALES, Row, RowFile, RowResources, Scale, ScaleFile, Table, TableFile
from tune_configs.validation import merge, nearest, validate

_NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")  # a table's or row's id names a folder


def load_tables(folder: Path | None = None) -> dict[str, Table]:
    """Read every table file of a folder (by default the ones that come with this package).

    Returns:
        table id -> table, in the order of the files' names; rows in the order of the file.

    Raises:
        UserError: naming file, line, and what would be right.
    """
    folder = folder or Path(__file__).parent
    tables: dict[str, Table] = {}
    for path in sorted(folder.glob("*.yaml")):
        table = load_table(path)
        if table.id != path.stem:
            raise UserError(f"{path.name}: id is {table.id!r}; it must be the file's name, {path.stem!r}")
        tables[table.id] = table
    if not tables:
        raise UserError(f"{folder}: no table (*.yaml) stands here")
    return tables


def load_table(path: Path) -> Table:
    """Read one table file.

    Raises:
        UserError: naming file, line, and what would be right.
    """
    try:
        text = path.read_text("utf-8")
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
    rows = {row_id: _build_row(head, root, bodies, row_id) for row_id in bodies}
    return Table(head.id, head.title, head.source, head.default_seeds, rows)


def _build_row(head: TableFile, root: Located, bodies: dict[str, tuple[RowFile, Located]], row_id: str) -> Row:
    body = bodies[row_id][0]
    corrected = _corrected_row(bodies, row_id)
    names = [row_id] if corrected is None else [corrected, row_id]
    rows = [bodies[name][1] for name in names]
    recipes: dict[Scale, Recipe] = {}
    resources: dict[Scale, RowResources] = {}
    for scale in SCALES:
        at_scale = [entry for source in (root, *rows) if (entry := _at_scale(source, scale)) is not None]
        laid = _entry(root, "recipe")
        for section in (*rows, *at_scale):
            laid = merge(laid, section.get("recipe"))
        full = validate(Recipe, laid, f"row {row_id}, scale {scale}")
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
        notes=tuple(body.notes),
        recipes=recipes,
        resources=resources,
    )


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
