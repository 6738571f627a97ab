"""One test generated per row of every table: it loads, builds and counts. test_rows_training.py trains it."""

from __future__ import annotations

from typing import Any

import pytest
from row_facts import ROWS, classifier_edges, graph_edges, name_of

from dnw_core.models.build import build_wired
from dnw_core.recipe import Recipe
from dnw_core.record import Cost
from dnw_core.wiring.rule import attached_rules
from tune_configs import SCALES, Row

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
    "imagenet/mobilenet-v1-x0.25": "a2086f9f",
    "imagenet/x4-mobilenet-v1": "2a031c2b",
    "imagenet/mobilenet-v2-x0.15": "3e77eb00",
    "imagenet/mobilenet-v2-x0.4": "13dd5010",
    "imagenet/densenet-x0.5": "eaf703e6",
    "imagenet/xception-x0.5": "8ce24186",
    "imagenet/shufflenet-v1-x0.5": "33f6c81d",
    "imagenet/shufflenet-v2-x0.5": "8ed83c34",
    "imagenet/random-x0.225": "4373d692",
    "imagenet/dnw-small-x0.15": "826938ed",
    "imagenet/dnw-small-x0.225": "50f4269f",
    "imagenet/dnw-x0.225": "17c9d930",
    "imagenet/dnw-x0.3": "d2322eec",
    "imagenet/mobilenet-v1-x0.5": "f88e2e56",
    "imagenet/mobilenet-v2-x0.6": "ba32203c",
    "imagenet/mobilenet-v2-x0.75": "39dace6e",
    "imagenet/densenet-x1": "b18e7ff8",
    "imagenet/xception-x1": "7edd10a7",
    "imagenet/shufflenet-v1-x1": "53376363",
    "imagenet/shufflenet-v2-x1": "849df7b3",
    "imagenet/random-x0.49": "db6659fb",
    "imagenet/dnw-x0.49": "cb6237f4",
    "imagenet/random-x0.49-like-for-like": "17f761d1",
    "imagenet/mnasnet-search2": "e6f75dc2",
    "imagenet/x4-mobilenet-v1-dnw-recipe": "89208ec5",
    "imagenet/mobilenet-v2-x0.15-dnw-recipe": "11fc1979",
    "imagenet/mobilenet-v2-x0.4-dnw-recipe": "23e0bea1",
    "imagenet/densenet-x0.5-dnw-recipe": "adda07ba",
    "imagenet/xception-x0.5-dnw-recipe": "830dc94c",
    "imagenet/shufflenet-v1-x0.5-dnw-recipe": "53494f5c",
    "imagenet/shufflenet-v2-x0.5-dnw-recipe": "5a77e9e2",
    "imagenet/mobilenet-v2-x0.6-dnw-recipe": "be9152ee",
    "imagenet/mobilenet-v2-x0.75-dnw-recipe": "172751b1",
    "imagenet/densenet-x1-dnw-recipe": "c18812bf",
    "imagenet/xception-x1-dnw-recipe": "44f22086",
    "imagenet/shufflenet-v1-x1-dnw-recipe": "d04bb535",
    "imagenet/shufflenet-v2-x1-dnw-recipe": "930a2c95",
}

# facts 1.2: parameters without the node norm's affine ones, and kept edges, of every row of table tiny
TINY_PARAMETERS_AND_EDGES = (41_458, 32_000)

# everything that is trained but the edges and the classifier: stem, node operations, norms
GRAPH_OTHERS = 27 * 32 + 9 * 4_960 + 2 * (4_960 + 1_024)
GRAPH_SLOTS = 12_044_288
# the ordinary network: 215,642 parameters, 196,224 of them in pointwise convolutions
MOBILENET_X025 = (215_642, 196_224)
# facts 4.2: parameters (norms and biases counted) and multiply-adds in millions; ours count the pooling, too
MOBILENETS = {"mobilenet-v1-x0.25": (0.470, 41.03), "mobilenet-v1-x0.5": (1.332, 149.5)}
X4_MACS = 53.2  # facts 4.2, in millions
MOST_FROM_PUBLISHED = 0.019  # of the published multiply-adds: docs/deviations.md tells of each above 1 %
MNASNET_SMALL_MACS = 68.3  # facts 4.2, in millions; the published row is another network


def check_size(row: Row, recipe: Recipe, cost: Cost) -> None:
    """The row has the published parameters and edges."""
    network = recipe.network
    if row.table == "tiny":
        assert (cost.parameters, cost.edges) == TINY_PARAMETERS_AND_EDGES
    elif network.kind == "graph-mobilenet":
        assert cost.edges == graph_edges(row, network.classes)
        small = classifier_edges(row, network.classes) is not None
        assert cost.parameters_with_norm == cost.edges + GRAPH_OTHERS + (0 if small else 1_025 * network.classes)
        assert cost.parameters_allocated == GRAPH_SLOTS + GRAPH_OTHERS + (1_024 + (not small)) * network.classes
    elif row.table == "wirings":
        assert (cost.parameters_with_norm, cost.edges) == MOBILENET_X025
    elif network.image_size > 32:
        check_ordinary_size(row, cost)


def check_ordinary_size(row: Row, cost: Cost) -> None:
    """Facts 4.2 or, for networks whose widths were never published, the published multiply-adds."""
    name, macs = row.id.removesuffix("-dnw-recipe"), cost.macs / 1e6
    if name in MOBILENETS:
        assert round(cost.parameters_with_norm / 1e6, 3) == MOBILENETS[name][0]
        assert macs == pytest.approx(MOBILENETS[name][1], rel=1e-3)
    elif name == "x4-mobilenet-v1":
        assert round(macs, 1) == X4_MACS
    elif name == "mnasnet-search2":
        assert round(macs, 1) == MNASNET_SMALL_MACS
    else:
        published = next(other.published for other in ROWS if name_of(other) == f"imagenet/{name}")
        assert published is not None
        assert published.macs is not None
        assert macs == pytest.approx(float(published.macs.removesuffix("M")), rel=MOST_FROM_PUBLISHED)


def test_fingerprints_of_the_papers_recipes_stay() -> None:
    """Growing the code never orphans old results."""
    assert {name_of(row): row.fingerprint_at("paper") for row in ROWS} == PAPER_FINGERPRINTS


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_row_builds_to_its_published_size(row: Row) -> None:
    """At every scale the network is the paper's, with as many parameters and edges."""
    built: dict[tuple[str, str], None] = {}
    for scale in ("smoke", "paper") if row.table == "imagenet" else SCALES:  # a second for each graph network there
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
        check_size(row, recipe, cost)
        assert cost.live_edges <= cost.edges
        assert (cost.live_edges > 0) == bool(graphs)
        assert cost.live_macs <= cost.macs <= cost.dense_macs
