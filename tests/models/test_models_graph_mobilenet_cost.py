"""Cost and liveness of the graph network: facts 2.3 and 2.4, brute force, and a block counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dnw_core.config.budget import EdgeBudget
from dnw_core.config.networks import GRAPH_BLOCKS, GraphBlock, GraphMobileNetConfig
from dnw_core.config.rules import FixedRandomConfig, TopEdgesConfig
from dnw_core.models.build import build_wired
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet
from dnw_core.record import Cost
from dnw_core.wiring.attach import attached_rules

IMAGENET_PIXELS = (112**2, 56**2, 28**2, 14**2, 7**2, 1)
CIFAR_PIXELS = (32**2, 16**2, 8**2, 4**2, 2**2, 1)


def config_for(image_size: int, classifier: Any = "linear") -> GraphMobileNetConfig:
    """The network at a size."""
    classes = 1000 if image_size > 64 else 10
    return GraphMobileNetConfig(kind="graph-mobilenet", image_size=image_size, classes=classes, classifier=classifier)


def nothing_dead(config: GraphMobileNetConfig, width: float) -> tuple[Any, dict[str, Tensor]]:
    """The network and masks with the kept number of edges, where every sender sends and every output receives."""
    network = GraphMobileNet(config)
    masks = {}
    for graph in network.graphs():
        slots = graph.slots
        usable = torch.ones(slots.shape, dtype=torch.bool) if slots.usable is None else slots.usable
        mask = torch.zeros(slots.shape, dtype=torch.bool)
        receivers, senders = slots.shape
        outputs = GRAPH_BLOCKS[-1].outputs if graph.name == "block-4" else 1
        mask[receivers - 1 - torch.arange(senders) % outputs, torch.arange(senders)] = True  # the last rows take all
        kept = EdgeBudget(None, width).edges(slots.numel, slots.law)
        free = (usable & ~mask).flatten().nonzero().flatten()
        mask.view(-1)[free[: kept - int(mask.sum())]] = True
        masks[graph.name] = mask
    return network, masks


def rounded_up(config: GraphMobileNetConfig, width: float, pixels: tuple[int, ...]) -> tuple[int, float]:
    """What rounding the kept edges up adds to the facts' figures: to parameters (they round down) and to MACs."""
    parameters, macs = 0, 0.0
    budget = EdgeBudget(None, width)
    for size, area in zip(config.graph_sizes(), pixels, strict=False):
        nominal = budget.share(size.law) * size.slots
        parameters += budget.edges(size.slots, size.law) - int(nominal)
        macs += float(budget.edges(size.slots, size.law) - nominal) * area
    return parameters, macs


@pytest.mark.parametrize(
    ("width", "classifier", "parameters", "macs"),
    [
        (0.15, "edges", None, 40.57e6),
        (0.225, "edges", None, 55.82e6),
        (0.225, "linear", 1_228_371 + 2 * (27 + 9), 56.61e6),  # the facts' count has two dead input nodes
        (0.3, "linear", 1_352_064, 77.85e6),
        (0.49, "linear", 1_823_315, 158.83e6),
        (0.51, "linear", 1_886_107, 169.62e6),
    ],
)
def test_the_cost_of_a_network_without_dead_nodes(
    width: float, classifier: Any, parameters: int | None, macs: float
) -> None:
    """Facts 2.4 at 224 pixels, to the last digit printed there."""
    config = config_for(224, classifier)
    network, masks = nothing_dead(config, width)
    cost: Cost = network.cost(masks)
    more_parameters, more_macs = rounded_up(config, width, IMAGENET_PIXELS)
    assert round((cost.macs - more_macs) / 1e4) == round(macs / 1e4)
    if parameters is not None:
        assert cost.parameters - more_parameters == parameters
    assert cost.nodes == 4_960


def test_the_random_graph_of_the_facts_has_two_dead_input_nodes() -> None:
    """55.71M multiply-adds and 1,228,371 parameters, published as 55.7M: two inputs of block 0 are dead."""
    config = config_for(224)
    network, masks = nothing_dead(config, 0.225)
    first = masks["block-0"]
    moved = int(first[:, :2].sum())
    first[:, :2] = False
    free = (~first[:, 2:]).nonzero()[:moved]
    first[free[:, 0], free[:, 1] + 2] = True
    cost = network.cost(masks)
    more_parameters, more_macs = rounded_up(config, 0.225, IMAGENET_PIXELS)
    assert cost.parameters - more_parameters == 1_228_371
    assert round((cost.macs - more_macs) / 1e4) == 5571


def test_random_graphs_of_ours_cost_what_chance_leaves_dead() -> None:
    """Our own draws: the all-alive cost less 451,584 multiply-adds per dead input of block 0 and a few hidden ones."""
    rule = FixedRandomConfig(rule="fixed-random", width=0.225)
    network: Any
    network, graphs = build_wired(config_for(224), rule, seed=0)
    masks = {graph.name: attached.edges() for graph, attached in zip(graphs, attached_rules(network), strict=True)}
    cost = network.cost(masks)
    dead = GRAPH_BLOCKS[0].inputs - int(masks["block-0"].any(dim=0).sum())
    assert cost.macs == pytest.approx(56.61e6 - 451_584 * dead, abs=0.04e6)
    assert cost.edges == 158_944


def test_the_cifar_network_of_the_facts() -> None:
    """4.55M multiply-adds and 214,685 parameters with nothing dead (facts 2.4), at real resolutions (Q10)."""
    config = config_for(32)
    network, masks = nothing_dead(config, 0.225)
    cost = network.cost(masks)
    _, more_macs = rounded_up(config, 0.225, CIFAR_PIXELS)
    nominal = sum(float(EdgeBudget(None, 0.225).share(size.law)) * size.slots for size in config.graph_sizes())
    assert round((cost.macs - more_macs) / 1e4) == 455
    assert int(cost.parameters - cost.edges + nominal) == 214_685
    assert cost.parameters_allocated == 12_112_010
    assert cost.parameters_with_norm == 158_944 + 864 + 9 * 4_960 + 2 * (4_960 + 1_024) + 10_250


def test_at_the_start_dnw_selects_many_slots_that_are_never_read() -> None:
    """Q1: 97,303 of 158,944 in the facts' seed; ours within chance, and all of them with usable slots ranked only."""
    found = {}
    for variant in ("reference", "corrected"):
        rule = TopEdgesConfig(rule="top-edges", width=0.225, ranked_slots=variant)
        network: Any
        network, graphs = build_wired(config_for(32), rule, seed=0)
        usable = [graph.slots.usable for graph in graphs]
        masks = [attached.edges() for attached in attached_rules(network)]
        found[variant] = sum(int((m & u).sum()) for m, u in zip(masks, usable, strict=True) if u is not None)
    assert found["reference"] == pytest.approx(97_303, rel=0.01)
    assert found["corrected"] == 158_944


SMALL_BLOCKS = (GraphBlock(3, 2, 1, 1), GraphBlock(2, 3, 2, 3), GraphBlock(3, 2, 2, 2))


@pytest.mark.parametrize("classifier", ["linear", "edges"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_live_edges_by_brute_force(classifier: Any, seed: int) -> None:
    """Take each edge away: it is live exactly if the logits move. Nodes without input still send a constant (Q21)."""
    generator = torch.Generator().manual_seed(seed)
    network = GraphMobileNet(config_for(32, classifier), blocks=SMALL_BLOCKS).double()
    masks, weights = {}, {}
    with torch.no_grad():
        for graph in network.graphs():
            mask = torch.rand(graph.slots.shape, generator=generator) < 0.4
            masks[graph.name] = mask
            weight = graph.module.get_parameter("weight")
            weight.copy_(torch.randn(graph.slots.shape, generator=generator) * mask)
            weights[graph.name] = weight
        for name, parameter in network.named_parameters():
            if name.endswith("norm.bias"):
                parameter += 1.0
        images = torch.randn(4, 3, 32, 32, generator=generator, dtype=torch.float64)
        whole = network(images)
        live = network.liveness(masks)
        for name, mask in masks.items():
            moves = torch.zeros_like(mask)
            for receiver, sender in mask.nonzero().tolist():
                value = float(weights[name][receiver, sender])
                weights[name][receiver, sender] = 0.0
                moves[receiver, sender] = bool((network(images) - whole).abs().max() > 1e-7)
                weights[name][receiver, sender] = value
            assert torch.equal(live[name].edges, moves), name


def test_cost_of_a_small_network_by_hand() -> None:
    """Two blocks counted on paper: 8-pixel images, one dead input node, one dead hidden node."""
    blocks = (GraphBlock(2, 2, 1, 1), GraphBlock(2, 2, 2, 2))
    network = GraphMobileNet(GraphMobileNetConfig(kind="graph-mobilenet", image_size=8, classes=10), blocks=blocks)
    first, second = torch.zeros(2, 2, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    first[0, 0] = True  # input 0 -> output 0; input 1 sends nothing
    second[0, 0] = True  # input 0 -> hidden 0
    second[2, 2] = True  # hidden 0 -> output 0
    second[1, 1] = True  # input 1 -> hidden 1, which sends nothing: kept, not live
    cost = network.cost({"block-0": first, "block-1": second})
    assert (cost.edges, cost.live_edges, cost.nodes, cost.live_nodes) == (4, 3, 6, 3)
    # stem 27 a pixel for one node; block 0 at 8x8: 1 edge, 1 node; block 1 at 4x4: 3 edges, 3 nodes; one output
    assert cost.macs == 27 * 64 + (1 + 9) * 64 + (3 + 27) * 16 + 16 + 10
    assert cost.live_macs == 27 * 64 + (1 + 9) * 64 + (2 + 18) * 16 + 16 + 10
    assert cost.parameters == 27 + (1 + 9) + (3 + 27) + 10
    assert cost.live_parameters == 27 + (1 + 9) + (2 + 18) + 10
