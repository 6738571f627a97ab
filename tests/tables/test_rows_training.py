"""One test generated per kind of row: it trains, and no setting of it is unread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fingerprints import PAPER_FINGERPRINTS
from support.networks.row_facts import ROWS, block_edges
from support.row_kinds import one_of_each_kind

from dnw_core.config.base import Config, fingerprint
from dnw_core.config.execution import Execution
from dnw_core.config.recipe import DataConfig, Recipe
from dnw_core.record import WIRING_FILE, TrialRecord
from dnw_core.task import TrialIdentity, TrialTask
from tune_configs import Row, load_tables

# networks that take long, as thin ones: .ci/run trains each row's real one at smoke scale
SMALLER: dict[str, dict[str, Any]] = {"resnet50": {"width_multiplier": 0.125}, "wide-resnet": {"depth": 10, "widen": 1}}
# settings of images that are streamed, which none at smoke scale are
STREAMED_SETTINGS = ("crop", "color_jitter", "pixels", "content")


TRAINED = [f"{row.table}/{row.id}" for row in one_of_each_kind(load_tables().values())]


def shortened(recipe: Recipe) -> Recipe:
    """One epoch of two steps on eight images, the parent's alike.

    The steps are small: the last norms of a deep network see one pixel of each image, and so few numbers diverge at the
    rates of real batches; two numbers do at any rate.
    """
    parent = shortened(recipe.parent) if recipe.parent is not None else None
    data = recipe.data.model_copy(update={"train_images": 8, "test_images": 2})
    optimiser = recipe.optimiser.model_copy(update={"learning_rate": 1e-5})
    changes = {"batch_size": 4, "epochs": 1, "data": data, "optimiser": optimiser, "parent": parent}
    if recipe.network.kind in SMALLER:
        changes["network"] = recipe.network.model_copy(update=SMALLER[recipe.network.kind])
    if recipe.batch_norm_images is not None:
        changes["batch_norm_images"] = 4
    return recipe.model_copy(update=changes)


def trained(recipe: Recipe, row: Row, folder: Path) -> TrialRecord:
    """Train the recipe in ``folder``, after its parent if it has one."""
    from dnw_core.training import run_trial

    parent = None
    if recipe.parent is not None:
        parent = folder / "parent"
        trained(recipe.parent, row, parent)
    identity = TrialIdentity(table=row.table, row=row.id, scale="smoke", fingerprint=fingerprint(recipe))
    return run_trial(TrialTask(recipe, 0, Execution(), folder, identity, parent))


@pytest.mark.parametrize("name", TRAINED)
def test_row_trains_and_reads_every_setting(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on eight images: the trial ends with a record, with the facts' number of edges in every block, and
    each setting of the recipe was looked at."""
    from reports.reading.wiring_file import read_counts

    row = ROWS[name]
    recipe = shortened(row.recipe_at("smoke"))
    read: set[tuple[type, str]] = set()
    original = Config.__getattribute__

    def recording(self: Config, setting: str) -> Any:
        read.add((type(self), setting))
        return original(self, setting)

    monkeypatch.setattr(Config, "__getattribute__", recording)
    record = trained(recipe, row, tmp_path)
    monkeypatch.undo()
    assert record.status == "done"
    if name in PAPER_FINGERPRINTS and recipe.network.kind == "graph-mobilenet" and recipe.wiring.rule != "complete":
        kept = {graph.name: graph.kept for graph in read_counts(tmp_path / WIRING_FILE)}
        assert [kept[f"block-{index}"] for index in range(5)] == block_edges(row)
    read |= {
        (DataConfig, field) for field in STREAMED_SETTINGS
    }  # streamed images do, in tests/data/test_data_streamed.py
    unread = [
        f"{type(part).__name__}.{field}"
        for part in parts_of(recipe)
        for field in type(part).model_fields
        if not any(field == setting and isinstance(part, kind) for kind, setting in read)
    ]
    assert unread == []


def parts_of(recipe: Recipe) -> list[Config]:
    """The recipe and its sections."""
    return [recipe, recipe.network, recipe.wiring, recipe.data, recipe.optimiser, recipe.schedule]
