"""The MobileNetV1-like graph network: structure and function (facts 2.1), against a float64 computation of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.references import mobilenet as reference_mobilenet
from support.references.same_function import assert_same_function
from torch import Tensor
from torch.nn import functional as F

from dnw_core.config import WiringConfig
from dnw_core.config.networks import GRAPH_BLOCKS, GraphBlock, GraphMobileNetConfig
from dnw_core.config.rules import CompleteConfig, FixedRandomConfig, TopEdgesConfig
from dnw_core.models.build import build_network, build_wired
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import effective_weights

CONFIG = GraphMobileNetConfig(kind="graph-mobilenet")
DNW = TopEdgesConfig(rule="top-edges", width=0.225)
EDGES = "edges.parametrizations.weight.original"


def some_images(count: int, side: int = 32) -> tuple[Tensor, Tensor]:
    """Random images and labels, float64."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 10, (count,), generator=generator)


def loss_and_gradients(network: Any, images: Tensor, labels: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Of the mean cross entropy, by parameter name."""
    network.zero_grad()
    with effective_weights():
        loss = F.cross_entropy(network(images), labels)
    loss.backward()
    return float(loss.detach()), {name: p.grad.double().clone() for name, p in network.named_parameters()}


def test_slots_and_sizes_are_those_of_the_facts() -> None:
    """12,044,288 slots, 6,981,632 usable (2.2), block by block; 4,960 nodes."""
    network, graphs = build_wired(CONFIG, DNW, seed=0)
    assert [graph.slots.numel for graph in graphs] == [2_048, 49_152, 196_608, 8_650_752, 3_145_728]
    assert [graph.slots.usable_count for graph in graphs] == [2_048, 32_768, 131_072, 4_718_592, 2_097_152]
    assert [(size.name, size.slots) for size in CONFIG.graph_sizes()] == [(g.name, g.slots.numel) for g in graphs]
    assert sum(block.senders for block in GRAPH_BLOCKS) == 4_960
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_112_010


@pytest.mark.parametrize(("classifier", "allocated"), [("linear", 13_126_760), ("edges", 13_125_760)])
def test_allocated_parameters_of_the_imagenet_network(classifier: Any, allocated: int) -> None:
    """Facts 2.2; "small" has a classifier of edges without a bias."""
    network = build_network(
        GraphMobileNetConfig(kind="graph-mobilenet", image_size=224, classes=1000, classifier=classifier), seed=0
    )
    assert sum(parameter.numel() for parameter in network.parameters()) == allocated


def test_edge_weights_start_as_a_dense_convolution_would() -> None:
    """Uniform within one over the root of all senders, however few edges are kept (facts 1.6)."""
    network: Any = build_network(CONFIG, seed=3)
    for block in network.graph_blocks():
        bound = block.shape.senders**-0.5
        weight = block.edges.weight.detach()
        assert float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("rule", [DNW, CompleteConfig(rule="complete")], ids=["dnw", "complete"])
def test_function_and_gradients_match_the_reference(rule: WiringConfig) -> None:
    """Logits, and the gradient of every parameter, unselected edges included, to 1e-9 in float64."""
    network: Any
    network, _ = build_wired(CONFIG, rule, seed=1)
    assert_same_function(network, reference_mobilenet.forward, (3, 3, 32, 32), atol=1e-11)


def test_float32_takes_other_ways_to_the_same_numbers() -> None:
    """The sparse products of float32 against the dense ones of float64."""
    networks = [build_wired(CONFIG, DNW, seed=2)[0] for _ in range(2)]
    images, labels = some_images(8)
    loss, gradients = loss_and_gradients(networks[0].double(), images, labels)
    loss32, gradients32 = loss_and_gradients(networks[1], images.float(), labels)
    assert loss32 == pytest.approx(loss, abs=1e-5)
    for name, gradient in gradients.items():  # one ReLU on the other side of zero moves a gradient by some 1e-3
        assert float((gradients32[name] - gradient).norm()) < 2e-2 * float(gradient.norm()), name


def test_evaluation_uses_running_statistics() -> None:
    """In evaluation an image's logits do not depend on its batch; in training they do."""
    network: Any
    network, _ = build_wired(CONFIG, DNW, seed=0)
    images = some_images(6)[0].float()
    with torch.no_grad():
        network.train()
        network(images)
        together = network(images)[:2]
        assert not torch.allclose(network(images[:2]), together, atol=1e-4)
        network.eval()
        torch.testing.assert_close(network(images[:2]), network(images)[:2], rtol=1e-4, atol=1e-5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert int(module.num_batches_tracked) == 3


def test_bf16_rounds_products_only() -> None:
    """Close to float32, and logits of a trainable scale; gradients reach the weights in float32."""
    networks = [build_wired(CONFIG, DNW, seed=2)[0] for _ in range(2)]
    images, labels = some_images(8)
    loss, _ = loss_and_gradients(networks[0], images.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16), effective_weights():
        logits = networks[1](images.float())
    rounded = F.cross_entropy(logits.float(), labels)
    rounded.backward()
    assert float(rounded.detach()) == pytest.approx(loss, abs=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in networks[1].parameters())


def test_the_random_graph_draws_usable_slots_only() -> None:
    """Facts 1.6: in these blocks the released region is exactly the usable one."""
    network, graphs = build_wired(CONFIG, FixedRandomConfig(rule="fixed-random", width=0.225), seed=4)
    for graph, attached in zip(graphs, attached_rules(network), strict=True):
        assert graph.slots.usable is not None
        assert not bool((attached.edges() & ~graph.slots.usable).any())


def test_a_group_receives_from_all_before_it_and_none_after() -> None:
    """One edge at a time in a block of three groups: what each output feels is exactly what may reach it."""
    shape = GraphBlock(inputs=2, outputs=2, stride=2, groups=3)
    network = GraphMobileNet(CONFIG, blocks=[shape])
    block = network.graph_blocks()[0]
    usable = block.slots().usable
    assert usable is not None
    assert usable.int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
    ]
