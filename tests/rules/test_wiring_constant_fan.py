"""Constant fan: partners counted neuron by neuron, gradient, draws, and X-4 MobileNetV1 with its dense first layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.references.brute_force import check_liveness
from torch import Tensor, nn

from dnw_core.config.networks import MobileNetV1Config
from dnw_core.config.rules import ConstantFanConfig, TopEdgesConfig
from dnw_core.models.build import build_network, build_rule, build_wired
from dnw_core.record import Cost
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.slots import Slots

X4 = MobileNetV1Config(kind="mobilenet-v1", width_multiplier=0.5, dense_layers=1, classes=1000, image_size=224)
SMALLEST = MobileNetV1Config(kind="mobilenet-v1", width_multiplier=0.07, dense_layers=2)


def mask_of(shape: tuple[int, ...], factor: int, seed: int = 0) -> Tensor:
    """The edges of a rule on a weight of this shape."""
    rule = build_rule(ConstantFanConfig(rule="constant-fan", factor=factor), Slots(shape), seed, "w")
    mask = rule.edges(torch.zeros(shape))
    assert tuple(mask.shape) == shape
    assert int(mask.sum()) == rule.promised_edges
    return mask.flatten(1)


def x_cost(factor: int) -> Cost:
    """Cost of MobileNetV1 x0.5 with this factor."""
    network: Any
    network, graphs = build_wired(X4, ConstantFanConfig(rule="constant-fan", factor=factor), 0)
    masks = {graph.name: rule.edges() for graph, rule in zip(graphs, attached_rules(network), strict=True)}
    cost: Cost = network.cost(masks)
    return cost


@pytest.mark.parametrize("factor", [1, 3, 4, 12])
@pytest.mark.parametrize("shape", [(5, 13), (13, 5), (13, 13), (6, 2, 3, 3), (40, 2, 3, 3)])
def test_every_neuron_of_the_smaller_side_has_as_many_partners(shape: tuple[int, ...], factor: int) -> None:
    """Rounded down; receivers draw where both sides are equal; a kernel's entries are senders of their own."""
    mask = mask_of(shape, factor)
    receivers, senders = mask.shape
    fan = mask.sum(dim=1) if receivers <= senders else mask.sum(dim=0)
    assert fan.tolist() == [max(receivers, senders) // factor] * min(receivers, senders)


def test_partners_are_drawn_uniformly_and_by_the_seed() -> None:
    """Every one of the larger side is drawn as often, within chance; each neuron draws anew; a seed, a mask."""
    mask = mask_of((1_000, 2_000), 200)
    drawn = mask.sum(dim=0).double()  # binomial: 1,000 draws of 1 in 200, mean 5
    assert float(drawn.mean()) == 5.0
    assert float(drawn.var()) == pytest.approx(5 * (1 - 1 / 200), rel=0.15)
    assert len({tuple(row.nonzero().flatten().tolist()) for row in mask[:200]}) == 200
    assert torch.equal(mask_of((8, 30), 3, seed=1), mask_of((8, 30), 3, seed=1))
    assert not torch.equal(mask_of((8, 30), 3, seed=1), mask_of((8, 30), 3, seed=2))


@pytest.mark.parametrize("sizes", [(12, 8), (8, 12)])
def test_only_drawn_edges_carry_signal_and_gradient(sizes: tuple[int, int]) -> None:
    """The effective weight is the weight on the edges and zero elsewhere; so is the gradient."""
    layer = nn.Linear(*sizes, bias=False)
    rule = build_rule(ConstantFanConfig(rule="constant-fan", factor=3), Slots(tuple(layer.weight.shape)), 0, "w")
    attach(layer, "weight", rule)
    (attached,) = attached_rules(layer)
    edges = attached.edges()
    inputs = torch.rand(4, sizes[0]) + 0.1
    assert torch.equal(layer(inputs), nn.functional.linear(inputs, attached.weight * edges))
    layer(inputs).sum().backward()
    assert attached.weight.grad is not None
    assert torch.equal(attached.weight.grad != 0, edges)


def test_bad_factors_are_refused() -> None:
    """A neuron without a partner; a network that does not read every slot."""
    config = ConstantFanConfig(rule="constant-fan", factor=14)
    with pytest.raises(ValueError, match="factor is 14, which leaves no partner among 13; it must be at most 13"):
        build_rule(config, Slots((5, 13)), 0, "w")
    usable = torch.ones(5, 20, dtype=torch.bool)
    usable[0, 0] = False
    with pytest.raises(ValueError, match="slots are all usable"):
        build_rule(config, Slots((5, 20), usable=usable), 0, "w")
    with pytest.raises(ValueError, match="factor"):
        ConstantFanConfig(rule="constant-fan", factor=0)


def test_x4_mobilenet_comes_to_the_facts() -> None:
    """53.2M multiply-adds (facts 4.2). The repository's figures at four factors are ours and a second classifier."""
    cost = x_cost(4)
    assert round(cost.macs / 1e5) == 532
    assert cost.edges == sum(size.slots for size in X4.graph_sizes()) // 4
    assert cost.parameters_with_norm == cost.parameters_allocated - 3 * cost.edges == 743_304
    for factor, published in ((2, 85.8), (4, 53.7), (8, 37.6), (16, 29.5)):
        pooling, classifier = 512 * 49, 512 * 1000
        assert round((x_cost(factor).macs - pooling + classifier) / 1e6, 1) == published


def test_the_first_layer_is_dense_and_counted_whole() -> None:
    """No rule on it, 12 graphs under their old names; keeping every edge gives the cost of the ordinary network."""
    network: Any
    network, graphs = build_wired(X4, ConstantFanConfig(rule="constant-fan", factor=4), 0)
    assert [graph.name for graph in graphs] == [f"pointwise-{index}" for index in range(1, 13)]
    assert [(graph.name, graph.slots.numel) for graph in graphs] == [
        (size.name, size.slots) for size in X4.graph_sizes()
    ]
    assert [attached.name for attached in attached_rules(network)] == [
        f"pairs.{index}.pointwise.weight" for index in range(1, 13)
    ]
    plain: Any
    plain, plain_graphs = build_wired(
        X4.model_copy(update={"dense_layers": 0}), ConstantFanConfig(rule="constant-fan", factor=1), 0
    )
    every = plain.cost({graph.name: torch.ones(graph.slots.shape, dtype=torch.bool) for graph in plain_graphs})
    assert x_cost(1).model_dump(exclude={"edges", "live_edges", "nodes", "live_nodes"}) == every.model_dump(
        exclude={"edges", "live_edges", "nodes", "live_nodes"}
    )


def test_cost_behind_dense_layers_by_hand() -> None:
    """x0.07, the first two layers dense (2 -> 4 -> 8), behind them one channel all the way and one edge to nowhere."""
    network: Any
    network, graphs = build_wired(SMALLEST, TopEdgesConfig(rule="top-edges", density=0.3), 0)
    masks = {graph.name: torch.zeros(graph.slots.shape, dtype=torch.bool) for graph in graphs}
    for mask in masks.values():
        mask[0, 0] = True
    masks["pointwise-3"][1, 1] = True
    cost = network.cost(masks)
    behind = [16, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2]  # pixels a side of pointwise-2 and on
    pooled = 2**2 + 10
    nominal = (27 * 2 + (9 * 2 + 2 * 4)) * 32**2 + (9 * 4 + 4 * 8) * 16**2 + sum(10 * side**2 for side in behind)
    # live: of the second dense layer's 8 channels one sends on; all of its inputs reach that one
    live = (27 * 2 + (9 * 2 + 2 * 4)) * 32**2 + (9 * 4 + 4 * 1) * 16**2 + sum(10 * side**2 for side in behind)
    assert cost.macs == nominal + 10 * 8**2 + pooled  # the edge to nowhere and the operation of its node
    assert cost.live_macs == live + pooled
    assert cost.parameters == 27 * 2 + 26 + 68 + 11 * 10 + 10 + 10
    assert cost.live_parameters == 27 * 2 + 26 + 40 + 11 * 10 + 10
    assert (cost.edges, cost.live_edges, cost.live_nodes) == (12, 11, 11)
    assert cost.nodes == sum(graph.slots.shape[1] for graph in graphs)
    assert cost.parameters_with_norm == cost.parameters_allocated - sum(mask.numel() for mask in masks.values()) + 12


def test_live_edges_behind_dense_layers_by_brute_force() -> None:
    """Take each edge away: it is live exactly if the logits move; the dense layers are not told of."""
    generator = torch.Generator().manual_seed(4)
    network: Any = build_network(SMALLEST, 0).double().eval()
    masks: dict[str, Tensor] = {}
    with torch.no_grad():
        for parameter in network.parameters():  # all positive, so that every ReLU is open
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.1)
        for graph in network.graphs():
            masks[graph.name] = torch.rand(graph.slots.shape, generator=generator) < 1.2 / graph.slots.shape[0]
            graph.module.weight *= masks[graph.name]
        images = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
        assert list(network.liveness(masks)) == [f"pointwise-{index}" for index in range(2, 13)]
        check_liveness(network, masks, images)
