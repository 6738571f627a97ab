"""One test generated per row of every table: it loads, builds, counts, trains, and no setting of it is unread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dnw_core.config import Config, fingerprint
from dnw_core.execution import Execution
from dnw_core.models.build import build_wired
from dnw_core.recipe import Recipe
from dnw_core.training import TrialIdentity, run_trial
from dnw_core.wiring.rule import attached_rules
from tune_configs import SCALES, Row, load_tables

ROWS = [row for table in load_tables().values() for row in table.rows.values()]

# What the paper's recipes hash to. A growing project must never move these: results lie under them.
# A row that is meant to change gets a new line here in the same commit, with the reason.
PAPER_FINGERPRINTS = {
    "tiny/static-random": "fe5fdfb3",
    "tiny/static-dnw": "7d61d9e0",
    "tiny/discrete-random": "40a54304",
    "tiny/discrete-dnw": "9cf3104a",
    "tiny/continuous-random": "ef4365a5",
    "tiny/continuous-dnw": "38e4f7c8",
    "tiny/static-random-corrected": "0d2485fc",
    "tiny/static-dnw-corrected": "6a893afc",
    "tiny/discrete-random-corrected": "0c5fb7b5",
    "tiny/discrete-dnw-corrected": "dee5cf4c",
    "tiny/continuous-random-corrected": "9837a58b",
    "tiny/continuous-dnw-corrected": "5decc797",
}

# facts 1.2: parameters without the node norm's affine ones, and kept edges, at the published recipe
PARAMETERS_AND_EDGES = {"tiny": (41_458, 32_000)}


def name_of(row: Row) -> str:
    """``table/row``."""
    return f"{row.table}/{row.id}"


def test_fingerprints_of_the_papers_recipes_stay() -> None:
    """Growing the code never orphans old results."""
    assert {name_of(row): row.fingerprint_at("paper") for row in ROWS} == PAPER_FINGERPRINTS


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_builds_to_its_published_size(row: Row) -> None:
    """At every scale the network is the paper's, with as many parameters and edges."""
    for scale in SCALES:
        recipe = row.recipe_at(scale)
        network: Any
        network, graphs = build_wired(recipe.network, recipe.wiring, seed=0)
        masks = {graph.name: rule.edges() for graph, rule in zip(graphs, attached_rules(network), strict=True)}
        cost = network.cost(masks)
        assert (cost.parameters, cost.edges) == PARAMETERS_AND_EDGES[row.table]
        assert 0 < cost.live_edges <= cost.edges
        assert cost.live_macs <= cost.macs <= cost.dense_macs


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_trains_and_reads_every_setting(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on four images: the trial ends with a record, and each setting of the recipe was looked at."""
    recipe = row.recipe_at("smoke")
    recipe = recipe.model_copy(
        update={
            "batch_size": 2,
            "epochs": 1,
            "data": recipe.data.model_copy(update={"train_images": 4, "test_images": 2}),
        }
    )
    read: set[tuple[type, str]] = set()
    original = Config.__getattribute__

    def recording(self: Config, name: str) -> Any:
        read.add((type(self), name))
        return original(self, name)

    monkeypatch.setattr(Config, "__getattribute__", recording)
    identity = TrialIdentity(table=row.table, row=row.id, scale="smoke", fingerprint=fingerprint(recipe))
    record = run_trial(recipe, 0, Execution(), tmp_path, identity)
    monkeypatch.undo()
    assert record.status == "done"
    unread = [
        f"{type(part).__name__}.{field}"
        for part in parts_of(recipe)
        for field in type(part).model_fields
        if not any(field == name and isinstance(part, kind) for kind, name in read)
    ]
    assert unread == []


def parts_of(recipe: Recipe) -> list[Config]:
    """The recipe and its sections."""
    return [recipe, recipe.network, recipe.wiring, recipe.data, recipe.optimiser, recipe.schedule]
