"""One test generated per row of every table: it loads, builds and counts. test_rows_training.py trains it."""

from __future__ import annotations

import functools

import pytest
from support.fingerprints import PAPER_FINGERPRINTS
from support.networks.row_facts import (
    ROWS,
    START_DENSE,
    STARTS_COMPLETE,
    block_edges,
    classifier_edges,
    graph_edges,
    resnet50_macs,
    resnet50_weights,
)

from dnw_core.config import NetworkConfig, WiringConfig
from dnw_core.config.recipe import Recipe
from dnw_core.record import Cost
from tune_configs import SCALES, Row
from tune_configs.scales import Scale

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
# by hand: 432 + 18 convolutions + 3 of shortcuts + 1,280 of the classifier; two parameters for each normed channel
WRN_22_2_WEIGHTS, WRN_22_2_TENSORS, WRN_22_2_NORMS = 1_076_912, 23, 2_720
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
    elif network.kind == "resnet50":
        bias = network.classes if network.classifier == "linear" else 0
        if network.image_size == 224:
            # a weight that is drawn as zero is above no threshold
            drawn_zero = 10 if recipe.wiring.rule == "soft-threshold" else 0
            assert 0 <= resnet50_weights(row) + bias - cost.parameters <= drawn_zero
            macs = resnet50_macs(row)
            assert macs is None or round(cost.macs / 1e6) == macs
        norms = 53_120 if network.norm_affine else 0
        assert cost.parameters_with_norm == cost.parameters + norms
    elif network.kind == "wide-resnet":
        check_wide_resnet(recipe, cost)
    elif row.table == "wirings":
        assert (cost.parameters_with_norm, cost.edges) == MOBILENET_X025
    elif network.image_size > 32:
        check_ordinary_size(row, cost)


def check_wide_resnet(recipe: Recipe, cost: Cost) -> None:
    """As many weights as the density says, rounded up in each of the 23."""
    density = 1.0 if recipe.wiring.rule in START_DENSE else getattr(recipe.wiring, "density", 1.0)
    assert cost.parameters_with_norm - cost.parameters == (WRN_22_2_NORMS if recipe.network.norm_affine else 0)
    kept = cost.parameters - recipe.network.classes
    assert density * WRN_22_2_WEIGHTS <= kept < density * WRN_22_2_WEIGHTS + WRN_22_2_TENSORS


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
        published = ROWS[f"imagenet/{name}"].published
        assert published is not None
        assert published.macs is not None
        assert macs == pytest.approx(float(published.macs.removesuffix("M")), rel=MOST_FROM_PUBLISHED)


# a second for each graph network or ResNet-50
SLOW_TO_BUILD: dict[str, tuple[Scale, ...]] = {"imagenet": ("smoke", "paper"), "sparse-resnet50": ("paper",)}


def test_fingerprints_of_the_shipped_rows_stay() -> None:
    """Growing the code never orphans old results; a new row may stand beside them."""
    assert {name: ROWS[name].fingerprint_at("paper") for name in PAPER_FINGERPRINTS} == PAPER_FINGERPRINTS


@functools.cache  # many rows are one network and rule
def counted(network_config: NetworkConfig, wiring: WiringConfig, epochs: int) -> tuple[Cost, dict[str, int]]:
    """The network's cost as its rule begins, and how many edges each graph has then."""
    from support.networks.wired_networks import wired

    from dnw_core.wiring.attach import attached_rules
    from dnw_core.wiring.hooks import Wiring
    from dnw_core.wiring.rule import Run

    network, graphs = wired(network_config, wiring)
    for attached in attached_rules(network):
        attached.rule.load_parent_weight(attached.weight)  # of no matter to rules that inherit nothing
    Wiring(network).announce(Run(epochs, 1))
    masks = {graph.name: rule.edges() for graph, rule in zip(graphs, attached_rules(network), strict=True)}
    return network.cost(masks), {name: int(mask.count_nonzero()) for name, mask in masks.items()}


@pytest.mark.parametrize("name", ROWS)
def test_row_builds_to_its_published_size(name: str) -> None:
    """At every scale the network is the paper's, with as many parameters and edges."""
    row = ROWS[name]
    epochs: dict[tuple[NetworkConfig, WiringConfig], int] = {}  # scales of the same network and rule count once
    for scale in SLOW_TO_BUILD.get(row.table, SCALES):
        recipe = row.recipe_at(scale)
        parts = recipe.network, recipe.wiring
        cost, edges = counted(*parts, epochs.setdefault(parts, recipe.epochs))
        if name in PAPER_FINGERPRINTS:  # what the facts know nothing of has no published size
            check_size(row, recipe, cost)
            if recipe.network.kind == "graph-mobilenet" and name not in STARTS_COMPLETE:
                assert [edges[f"block-{index}"] for index in range(5)] == block_edges(row)
        assert cost.live_edges <= cost.edges
        assert (cost.live_edges > 0) == bool(edges)
        assert cost.live_macs <= cost.macs <= cost.dense_macs
