"""One test generated per row of every table: it loads, builds, counts, trains, and no setting of it is unread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dnw_core.config import Config, fingerprint
from dnw_core.execution import Execution
from dnw_core.models.build import build_wired
from dnw_core.recipe import Recipe
from dnw_core.record import WIRING_FILE, Cost, TrialRecord
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
    "wirings/mobilenet-x0.25": "667a25b5",
    "wirings/random-x0.225": "e4e7c84f",
    "wirings/no-update": "1fc132f9",
    "wirings/l1-anneal": "bd029296",
    "wirings/targeted-dropout": "a5085981",
    "wirings/lottery-one-shot": "44d369b2",
    "wirings/dnw-x0.225": "ce80e502",
    "wirings/complete": "e8aa782a",
    "wirings/fine-tune": "8ff2227e",
    "wirings/no-update-corrected": "d8211906",
    "wirings/targeted-dropout-corrected": "af7b7bc2",
    "wirings/dnw-x0.225-corrected": "07474d66",
    "wirings/random-x0.15": "be497ad0",
    "wirings/random-x0.3": "2f38f701",
    "wirings/random-x0.49": "fe375e81",
    "wirings/dnw-x0.15": "f6099bcd",
    "wirings/dnw-x0.3": "038ddd2a",
    "wirings/dnw-x0.49": "9cf82471",
}

# facts 1.2: parameters without the node norm's affine ones, and kept edges, of every row of table tiny
TINY_PARAMETERS_AND_EDGES = (41_458, 32_000)

# facts 2.2 and 4.1: kept edges of each block by width; every usable slot where a rule starts from the complete graph
BLOCK_EDGES = {
    "x0.15": [47, 553, 2_212, 32_441, 35_390],
    "x0.225": [104, 1_245, 4_977, 72_991, 79_627],
    "x0.3": [185, 2_212, 8_848, 129_762, 141_558],
    "x0.49": [492, 5_901, 23_603, 346_175, 377_645],
}
COMPLETE_EDGES = 6_981_632
STARTS_COMPLETE = {"wirings/complete", "wirings/l1-anneal"}
# everything that is trained but the edges: stem, node operations, norms, classifier
GRAPH_OTHERS = 27 * 32 + 9 * 4_960 + 2 * (4_960 + 1_024) + 10_250
# the ordinary network: 215,642 parameters, 196,224 of them in pointwise convolutions
MOBILENET_X025 = (215_642, 196_224)


def name_of(row: Row) -> str:
    """``table/row``."""
    return f"{row.table}/{row.id}"


def graph_edges(row: Row) -> int:
    """Edges that a row of table wirings starts with; x0.225 where its name says no width."""
    return COMPLETE_EDGES if name_of(row) in STARTS_COMPLETE else sum(block_edges(row))


def block_edges(row: Row) -> list[int]:
    """Edges of each block of a row of table wirings; of x0.225 where its name says no width."""
    return next((edges for width, edges in BLOCK_EDGES.items() if width in row.id), BLOCK_EDGES["x0.225"])


def check_size(row: Row, cost: Cost) -> None:
    """The row has the published parameters and edges."""
    if row.table == "tiny":
        assert (cost.parameters, cost.edges) == TINY_PARAMETERS_AND_EDGES
    elif row.recipe_at("paper").network.kind == "mobilenet-v1":
        assert (cost.parameters_with_norm, cost.edges) == MOBILENET_X025
    else:
        assert cost.edges == graph_edges(row)
        assert cost.parameters_with_norm == cost.edges + GRAPH_OTHERS
        assert cost.parameters_allocated == 12_112_010


def shortened(recipe: Recipe) -> Recipe:
    """One epoch of two steps on four images, the parent's alike."""
    parent = shortened(recipe.parent) if recipe.parent is not None else None
    data = recipe.data.model_copy(update={"train_images": 4, "test_images": 2})
    return recipe.model_copy(update={"batch_size": 2, "epochs": 1, "data": data, "parent": parent})


def trained(recipe: Recipe, row: Row, folder: Path) -> TrialRecord:
    """Train the recipe in ``folder``, after its parent if it has one."""
    parent = None
    if recipe.parent is not None:
        parent = folder / "parent"
        trained(recipe.parent, row, parent)
    identity = TrialIdentity(table=row.table, row=row.id, scale="smoke", fingerprint=fingerprint(recipe))
    return run_trial(recipe, 0, Execution(), folder, identity, parent=parent)


def test_fingerprints_of_the_papers_recipes_stay() -> None:
    """Growing the code never orphans old results."""
    assert {name_of(row): row.fingerprint_at("paper") for row in ROWS} == PAPER_FINGERPRINTS


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_builds_to_its_published_size(row: Row) -> None:
    """At every scale the network is the paper's, with as many parameters and edges."""
    built: dict[tuple[str, str], None] = {}
    for scale in SCALES:
        recipe = row.recipe_at(scale)
        key = recipe.network.model_dump_json(), recipe.wiring.model_dump_json()
        if key in built:  # the same network and rule: once is enough
            continue
        built[key] = None
        network: Any
        network, graphs = build_wired(recipe.network, recipe.wiring, seed=0)
        for attached in attached_rules(network):
            attached.rule.inherit(attached.weight)  # of no matter to rules that inherit nothing
        masks = {graph.name: rule.edges() for graph, rule in zip(graphs, attached_rules(network), strict=True)}
        cost = network.cost(masks)
        check_size(row, cost)
        assert 0 < cost.live_edges <= cost.edges
        assert cost.live_macs <= cost.macs <= cost.dense_macs


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_trains_and_reads_every_setting(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on four images: the trial ends with a record, with the facts' number of edges in every block, and
    each setting of the recipe was looked at."""
    recipe = shortened(row.recipe_at("smoke"))
    read: set[tuple[type, str]] = set()
    original = Config.__getattribute__

    def recording(self: Config, name: str) -> Any:
        read.add((type(self), name))
        return original(self, name)

    monkeypatch.setattr(Config, "__getattribute__", recording)
    record = trained(recipe, row, tmp_path)
    monkeypatch.undo()
    assert record.status == "done"
    if recipe.network.kind == "graph-mobilenet" and recipe.wiring.rule != "complete":
        with np.load(tmp_path / WIRING_FILE) as wiring:
            assert [len(wiring[f"block-{index}.rows"]) for index in range(5)] == block_edges(row)
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
