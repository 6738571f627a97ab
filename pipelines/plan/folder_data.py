"""A folder of images is identified by its content, which becomes part of the recipes that train on it.

Other data sets are identified by name. A row that takes any folder of images (``image-folder``) names neither the
folder nor its number of classes, so its recipe is completed before anything is planned: the same row on two folders is
two recipes with two fingerprints, and a changed folder is never mistaken for the one that was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from dnw_core.config import Execution, Recipe
from dnw_core.data import STREAMED_DATASETS
from dnw_core.errors import DataMissingError
from pipelines.spec import RowKey
from pipelines.store import Store
from tune_configs import Row, Scale, Table

DATASET = "image-folder"


def complete_tables(
    tables: Mapping[str, Table], rows: Iterable[Row], scale: Scale, data_dir: str | None, store: Store
) -> dict[str, Table]:
    """Return the tables with the recipes at ``scale`` completed from the folder of images.

    Without the folder (a report on another machine) a recipe is completed from the newest result of its row; without
    either it stays incomplete, and its data are missing.

    Args:
        tables: all tables.
        rows: the rows asked for; the folder is read only if one of them trains on it.
        scale: the scale of the command.
        data_dir: the folder of data sets, as ``Execution.data_dir``.
        store: the results so far.

    Raises:
        DataBrokenError: if the folder is not a valid data set (train and val differ, a class is empty).
    """
    if not any(_takes_folder(row, scale) for row in rows):
        return dict(tables)
    try:
        found = STREAMED_DATASETS[DATASET].describe(Execution(data_dir=data_dir))
    except DataMissingError:
        trained = _trained_on(store)

        def complete(row: Row, recipe: Recipe) -> Recipe:
            return _complete(recipe, *trained.get((row.table, row.id), (None, 0)))

        return _with_recipes(tables, scale, complete)
    return _with_recipes(tables, scale, lambda _, recipe: _complete(recipe, found.digest, found.classes))


def _takes_folder(row: Row, scale: Scale) -> bool:
    return scale in row.recipes and row.recipes[scale].data.dataset == DATASET


def _with_recipes(
    tables: Mapping[str, Table], scale: Scale, change: Callable[[Row, Recipe], Recipe]
) -> dict[str, Table]:
    completed = {}
    for name, table in tables.items():
        rows = {
            row.id: replace(row, recipes={**row.recipes, scale: change(row, row.recipes[scale])})
            if _takes_folder(row, scale)
            else row
            for row in table.rows.values()
        }
        completed[name] = replace(table, rows=rows)
    return completed


def _complete(recipe: Recipe, content: str | None, classes: int) -> Recipe:
    if content is None:
        return recipe
    changes: dict[str, object] = {
        "data": recipe.data.model_copy(update={"content": content}),
        "network": recipe.network.model_copy(update={"classes": classes}),
    }
    if recipe.parent is not None:
        changes["parent"] = _complete(recipe.parent, content, classes)
    return recipe.model_copy(update=changes)


def _trained_on(store: Store) -> dict[RowKey, tuple[str, int]]:
    """Return the content and number of classes of each row's newest result."""
    newest: dict[RowKey, tuple[str, str, int]] = {}
    for stored in store.records():
        record = stored.record
        content = record.recipe.data.content
        if content is not None:
            when = record.provenance.finished_at if record.provenance else ""
            key = (record.table, record.row)
            newest[key] = max(newest.get(key, ("", "", 0)), (when, content, record.recipe.network.classes))
    return {key: (content, classes) for key, (_, content, classes) in newest.items()}
