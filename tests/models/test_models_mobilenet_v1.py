"""The ordinary MobileNetV1: function, published counts, live edges by brute force, and every rule on its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.references import mobilenet_v1 as reference_mobilenet_v1
from support.references.brute_force import check_liveness
from support.references.same_function import assert_same_function
from support.stubs.tiny_trials import small_recipe, train
from torch import Tensor
from torch.nn import functional as F

from dnw_core.config.networks import MobileNetV1Config
from dnw_core.config.rules import TopEdgesConfig
from dnw_core.models.build import build_network, build_wired
from dnw_core.models.mobilenet.mobilenet_v1 import MobileNetV1
from dnw_core.record import WIRING_FILE, Cost, EpochMetrics
from reports.reading.wiring_file import read_wiring

QUARTER = MobileNetV1Config(kind="mobilenet-v1", width_multiplier=0.25)
SMALLEST = MobileNetV1Config(kind="mobilenet-v1", width_multiplier=0.1)


def everything(network: MobileNetV1) -> dict[str, Tensor]:
    """Masks that keep all."""
    return {graph.name: torch.ones(graph.slots.shape, dtype=torch.bool) for graph in network.graphs()}


def dense_cost(width: float, image_size: int, classes: int) -> Cost:
    """With every edge kept."""
    network = MobileNetV1(
        MobileNetV1Config(kind="mobilenet-v1", width_multiplier=width, image_size=image_size, classes=classes)
    )
    return network.cost(everything(network))


def test_counts_of_the_cifar_network() -> None:
    """x0.25 at 32 pixels: 215,642 parameters, 210,160 without norms and biases, 3.33M MACs (facts 4.1, 2.4)."""
    cost = dense_cost(0.25, 32, 10)
    assert cost.parameters_with_norm == cost.parameters_allocated == 215_642
    assert cost.parameters == cost.live_parameters == 210_160
    assert round(cost.macs / 1e4) == 333
    assert cost.macs == cost.live_macs == cost.dense_macs
    assert cost.edges == cost.live_edges == sum(size.slots for size in QUARTER.graph_sizes())
    assert cost.nodes == cost.live_nodes == 4_960 // 4


@pytest.mark.parametrize(
    ("width", "field", "parameters", "macs", "pooling"),
    [
        (0.25, "parameters_with_norm", 0.470e6, 41.03e6, 0),  # facts 4.2, which leave the pooling out
        (0.5, "parameters_with_norm", 1.332e6, 149.5e6, 0),
        (1.0, "parameters", 4.209e6, 568.8e6, 1),  # facts 2.4, "in the same accounting": with it
    ],
)
def test_counts_at_224_pixels(width: float, field: str, parameters: float, macs: float, pooling: int) -> None:
    """The published figures to their last digit: who prints norms and biases, and who counts the pooling."""
    cost = dense_cost(width, 224, 1000)
    assert round(getattr(cost, field) / 1e3) == round(parameters / 1e3)
    pooled = int(1024 * width) * 49
    digits = 1e4 if macs < 1e8 else 1e5
    assert round((cost.macs - (1 - pooling) * pooled) / digits) == round(macs / digits)


def test_graphs_are_the_pointwise_convolutions_of_the_plan() -> None:
    """Names and sizes are those of ``graph_sizes``; the weights are 1x1 convolutions."""
    network: Any = build_network(QUARTER, seed=0)
    graphs = network.graphs()
    assert [(graph.name, graph.slots.numel) for graph in graphs] == [
        (size.name, size.slots) for size in QUARTER.graph_sizes()
    ]
    assert [graph.name for graph in graphs] == [f"pointwise-{index}" for index in range(13)]
    for graph in graphs:
        assert tuple(graph.module.get_parameter(graph.weight_name).shape) == graph.slots.shape
        assert graph.slots.shape[2:] == (1, 1)


@pytest.mark.parametrize("density", [None, 0.3], ids=["complete", "dnw"])
def test_function_and_gradients_match_the_reference(density: float | None) -> None:
    """Logits and every gradient, unselected edges included, to 1e-9 in float64; channels that do not divide, too."""
    network: Any = build_network(SMALLEST, seed=1)
    if density is not None:
        network, _ = build_wired(SMALLEST, TopEdgesConfig(rule="top-edges", density=density), seed=1)
    assert_same_function(network, reference_mobilenet_v1.forward, (3, 3, 32, 32), atol=1e-11)


def test_large_images_are_halved_by_the_stem() -> None:
    """224 pixels end at 7, 32 at 2: the maps that the classifier averages."""
    for size, side in ((224, 7), (32, 2)):
        network = MobileNetV1(SMALLEST.model_copy(update={"image_size": size}))
        sides: list[int] = []
        network.pairs[-1].register_forward_hook(lambda module, given, made, sides=sides: sides.append(made.shape[-1]))
        network(torch.zeros(2, 3, size, size))
        assert sides == [side]


def test_bf16_rounds_products_only() -> None:
    """Close to float32; norms stay float32 and so do the gradients of the weights."""
    network: Any = build_network(QUARTER, seed=2)
    images, labels = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    dtypes: list[torch.dtype] = []
    network.pairs[5].depthwise_norm.register_forward_hook(lambda module, given, made: dtypes.append(given[0].dtype))
    loss = float(F.cross_entropy(network(images), labels).detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    rounded = F.cross_entropy(logits.float(), labels)
    rounded.backward()
    assert float(rounded.detach()) == pytest.approx(loss, abs=0.03)
    assert dtypes == [torch.float32, torch.float32]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("seed", [0, 1])
def test_live_edges_by_brute_force(seed: int) -> None:
    """Take each edge away: it is live exactly if the logits move. A channel without input sends a constant (Q21)."""
    generator = torch.Generator().manual_seed(seed)
    network = MobileNetV1(SMALLEST.model_copy(update={"width_multiplier": 0.07})).double().eval()
    masks: dict[str, Tensor] = {}
    with torch.no_grad():
        for graph in network.graphs():
            receivers = graph.slots.shape[0]
            mask = torch.rand(graph.slots.shape, generator=generator) < 1.2 / receivers
            masks[graph.name] = mask
            weight = graph.module.get_parameter("weight")
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64).abs() * mask)
        for name, parameter in network.named_parameters():
            if "norm.bias" in name:
                parameter += 1.0  # every ReLU is open: what is left is the graph
            if "depthwise.weight" in name or name == "stem.weight":
                parameter.abs_()
        images = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
        check_liveness(network, masks, images)


def test_cost_of_a_sparse_network_by_hand() -> None:
    """One channel all the way, one edge into a channel that goes nowhere: 27 + 13 * (1 + 9) weights and that edge."""
    network = MobileNetV1(SMALLEST)
    masks = {name: torch.zeros_like(mask) for name, mask in everything(network).items()}
    for mask in masks.values():
        mask[0, 0] = True
    masks["pointwise-3"][1, 0] = True
    cost = network.cost(masks)
    sides = [32, 16, 16, 8, 8, 4, 4, 4, 4, 4, 4, 2, 2]
    macs = 27 * 32**2 + sum(10 * side**2 for side in sides) + 2**2 + 10
    assert (cost.macs, cost.live_macs) == (macs + 8**2, macs)
    assert (cost.parameters, cost.live_parameters) == (27 + 130 + 1 + 10, 27 + 130 + 10)
    assert (cost.edges, cost.live_edges, cost.live_nodes) == (14, 13, 13)


def test_a_trial_with_four_dimensional_masks(tmp_path: Path) -> None:
    """DNW on 1x1 convolutions: exact counts, swaps, and edges stored as receivers and senders."""
    recipe = small_recipe(
        network=SMALLEST.model_dump(), data={"dataset": "digits", "flip": False, "train_images": 64, "test_images": 32}
    )
    lines: list[EpochMetrics] = []
    record = train(recipe, tmp_path, on_epoch=lines.append)
    assert record.cost is not None
    assert record.cost.edges == lines[-1].edges
    assert lines[0].edges_swapped > 0
    wiring = {graph.name: graph for graph in read_wiring(tmp_path / WIRING_FILE)}
    graphs = [wiring[size.name] for size in SMALLEST.graph_sizes()]
    assert [graph.shape for graph in graphs] == [(layer.outputs, layer.inputs) for layer in SMALLEST.layers()]
    found = [len(graph.rows) for graph in graphs]
    assert found == [size.slots * 15 // 100 + (size.slots * 15 % 100 > 0) for size in SMALLEST.graph_sizes()]
    live = sum(int(graph.live.sum()) for graph in graphs)
    assert live == record.cost.live_edges == lines[-1].live_edges
