"""ResNet-50 and the wide ResNet: function, weights and their beginning, and the counts of the facts to the last one."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from pydantic import TypeAdapter
from support.references import residual as reference_residual
from support.references.same_function import assert_same_function
from torch import Tensor
from torch.nn import functional as F

from dnw_core.config import WiringConfig
from dnw_core.config.budget import EdgeBudget
from dnw_core.config.residual_networks import ResNet50Config, WideResNetConfig
from dnw_core.config.rules import TopEdgesConfig
from dnw_core.models.build import build_network, build_wired
from dnw_core.record import Cost
from dnw_core.registry import load_class

FULL = ResNet50Config(kind="resnet50")
THIN = ResNet50Config(kind="resnet50", image_size=32, width_multiplier=0.05, classes=10)
WIDE = WideResNetConfig(kind="wide-resnet")
SMALL_WIDE = WideResNetConfig(kind="wide-resnet", depth=10, widen=2, image_size=9)


@pytest.fixture(scope="module")
def full() -> Any:
    """The whole ResNet-50, as it begins."""
    return build_network(FULL, seed=0)


def meta_network(config: ResNet50Config | WideResNetConfig) -> Any:
    """Shapes without values: enough for everything that is counted."""
    with torch.device("meta"):
        return load_class(config.implementation)(config)


def cost_at(config: ResNet50Config | WideResNetConfig, density: float) -> Cost:
    """With the first edges of every graph kept, as many as the density asks for: those of its first receivers.

    Whatever sends is read by these, so that nothing is dead.
    """
    network = meta_network(config)
    masks = {}
    for graph in network.graphs():
        kept = EdgeBudget(density, None).edges(graph.slots.numel)
        masks[graph.name] = (torch.arange(graph.slots.numel) < kept).view(graph.slots.shape)
    cost: Cost = network.cost(masks)
    return cost


@pytest.mark.parametrize(
    ("density", "dense_layers", "weights", "macs_in_millions"),
    [
        (0.1, 0, 2_550_318, 409),
        (0.2, 0, 5_100_607, 818),
        (0.3, 0, 7_650_902, 1_227),
        (0.1, 1, 2_558_785, 515),
        (0.2, 1, 5_108_133, 912),
        (0.3, 1, 7_657_487, 1_309),
        (1.0, 0, 25_502_912, 4_089),
    ],
)
def test_weights_and_macs_of_resnet50(density: float, dense_layers: int, weights: int, macs_in_millions: int) -> None:
    """All rows of the table in facts 3, dense first layer or not."""
    cost = cost_at(FULL.model_copy(update={"dense_layers": dense_layers}), density)
    assert cost.parameters == weights
    assert round(cost.macs / 1e6) == macs_in_millions
    assert round(cost.dense_macs / 1e6) == 4_089
    assert cost.edges == weights - dense_layers * 9_408
    assert (cost.parameters_with_norm, cost.parameters_allocated) == (weights + 53_120, 25_556_032)
    assert (cost.live_edges, cost.live_parameters, cost.live_macs) == (cost.edges, cost.parameters, cost.macs)
    assert cost.nodes == (24_579 if dense_layers == 0 else 24_576)


def test_all_three_bases_count_the_same_weights(full: Any) -> None:
    """54 prunable tensors with 25,502,912 weights: by the plan, by the graphs and by the module (facts 3)."""
    sizes = FULL.graph_sizes()
    graphs = full.graphs()
    assert len(sizes) == 54
    assert sum(size.slots for size in sizes) == 25_502_912
    assert [(graph.name, graph.slots.numel) for graph in graphs] == [(size.name, size.slots) for size in sizes]
    assert [sizes[index].name for index in (0, 1, 4, 5, 53)] == [
        "conv1",
        "layer1.0.conv1",
        "layer1.0.shortcut",
        "layer1.1.conv1",
        "classifier",
    ]
    for graph in graphs:
        assert tuple(graph.module.get_parameter(graph.weight_name).shape) == graph.slots.shape, graph.name
    graph_weights = {graph.module.get_parameter(graph.weight_name).data_ptr() for graph in graphs}
    rest = [parameter for parameter in full.parameters() if parameter.data_ptr() not in graph_weights]
    assert sum(parameter.numel() for parameter in rest) == 53_120


def test_counts_of_the_wide_resnet() -> None:
    """WRN-22-2 by hand: three 3x3 blocks a group, shortcuts where the channels change, one bias."""
    stem = 9 * 3 * 16
    group_1 = 9 * (16 * 32 + 32 * 32) + 16 * 32 + 2 * 9 * 2 * 32 * 32
    group_2 = 9 * (32 * 64 + 64 * 64) + 32 * 64 + 2 * 9 * 2 * 64 * 64
    group_3 = 9 * (64 * 128 + 128 * 128) + 64 * 128 + 2 * 9 * 2 * 128 * 128
    classifier = 128 * 10
    weights = stem + group_1 + group_2 + group_3 + classifier
    norms = 2 * ((16 + 5 * 32) + (32 + 5 * 64) + (64 + 5 * 128) + 128)
    cost = cost_at(WIDE, 1.0)
    assert sum(size.slots for size in WIDE.graph_sizes()) == cost.edges == cost.live_edges == weights == 1_076_912
    assert cost.parameters == weights + 10
    assert cost.parameters_allocated == cost.parameters_with_norm == weights + 10 + norms
    strided = (9 * 32 * 64 + 32 * 64) * 16**2 + (9 * 64 * 128 + 64 * 128) * 8**2
    rest_2, rest_3 = group_2 - 10 * 32 * 64, group_3 - 10 * 64 * 128
    assert cost.macs == (stem + group_1) * 32**2 + strided + rest_2 * 16**2 + rest_3 * 8**2 + classifier


def test_dense_layers_and_linear_classifiers_are_told() -> None:
    """A dense first layer is no graph but a parameter; a bias is a parameter and no edge."""
    for config in (FULL, WIDE):
        dense = config.model_copy(update={"dense_layers": 1})
        assert [size.name for size in dense.graph_sizes()] == [size.name for size in config.graph_sizes()][1:]
        assert [graph.name for graph in meta_network(dense).graphs()] == [size.name for size in dense.graph_sizes()]
    linear = cost_at(FULL.model_copy(update={"classifier": "linear"}), 0.1)
    assert (linear.edges, linear.parameters) == (2_550_318, 2_551_318)
    assert linear.parameters_allocated == 25_557_032


@pytest.mark.parametrize("rule", [{"rule": "soft-threshold"}, {"rule": "edge-popup", "density": 0.5}], ids=str)
def test_what_rules_train_is_allocated_and_no_parameter(rule: dict[str, Any]) -> None:
    """Thresholds and scores choose the edges; the network that was found needs none of them."""
    wiring: Any = TypeAdapter(WiringConfig).validate_python(rule)
    network, graphs = build_wired(SMALL_WIDE, wiring, seed=0)
    masks = {graph.name: torch.ones(graph.slots.shape, dtype=torch.bool) for graph in graphs}
    cost, plain = cast(Any, network).cost(masks), cost_at(SMALL_WIDE, 1.0)
    assert cost.parameters_allocated == sum(parameter.numel() for parameter in network.parameters())
    assert cost.parameters_allocated > plain.parameters_allocated
    assert cost.model_copy(update={"parameters_allocated": plain.parameters_allocated}) == plain


def test_resnet50_is_that_of_torchvision(full: Any) -> None:
    """With the weights carried over: the same logits and the same running statistics, in training mode."""
    from torchvision import models

    with torch.device("meta"):
        library = models.resnet50()
    renamed = {"shortcut.conv": "downsample.0", "shortcut.norm": "downsample.1", "classifier": "fc", "norm": "bn"}
    carried = {"fc.bias": torch.zeros(1000)}
    for name, value in full.state_dict().items():
        theirs = name
        for ours, other in renamed.items():
            theirs = theirs.replace(ours, other)
        carried[theirs] = (value.flatten(1) if "classifier" in name else value).clone()
    library.load_state_dict(carried, assign=True)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(full.train()(images), library.train()(images), rtol=1e-3, atol=1e-3)
    statistics = library.state_dict()
    torch.testing.assert_close(
        full.layer4[2].norm3.running_var, statistics["layer4.2.bn3.running_var"], rtol=1e-3, atol=0
    )
    assert sum(value.numel() for value in library.parameters()) == 25_557_032


@pytest.mark.parametrize("density", [None, 0.3], ids=["complete", "dnw"])
@pytest.mark.parametrize(
    "config",
    [
        THIN,
        THIN.model_copy(update={"classifier": "linear", "image_size": 45}),
        THIN.model_copy(update={"norm_affine": False}),
        SMALL_WIDE,
        SMALL_WIDE.model_copy(update={"norm_affine": False, "widen": 1}),
    ],
    ids=["resnet50", "resnet50-linear", "resnet50-no-affine", "wide", "wide-no-affine"],
)
def test_function_and_gradients_match_the_reference(config: Any, density: float | None) -> None:
    """Logits and every gradient, unselected edges included, in float64; maps that strides do not divide, too."""
    network: Any = build_network(config, seed=1)
    if density is not None:
        network, _ = build_wired(config, TopEdgesConfig(rule="top-edges", density=density), seed=1)

    def reference(effective: dict[str, Tensor], images: Tensor) -> Tensor:
        if isinstance(config, ResNet50Config):
            return reference_residual.resnet50(effective, images)
        return reference_residual.wide_resnet(effective, images, config.depth)

    assert_same_function(network, reference, (6, 3, config.image_size, config.image_size), atol=1e-9)


def check_kaiming(weight: Tensor, name: str) -> None:
    """Mean 0 and variance 2 / fan-in, each within four of its standard errors."""
    fan_in = weight[0].numel()
    entries = weight.numel()
    scaled = weight.detach() * math.sqrt(fan_in / 2)
    assert abs(float(scaled.mean())) < 4 / math.sqrt(entries), name
    assert abs(float(scaled.std()) - 1) < 4 / math.sqrt(2 * entries), name


def test_initialisation(full: Any) -> None:
    """Kaiming-normal by fan-in in all 54 weights, every norm at scale one and shift zero (facts 3)."""
    fresh = build_network(FULL.model_copy(update={"classifier": "linear"}), seed=3)
    for network in (full, fresh, build_network(WIDE, seed=0)):
        for graph in network.graphs():
            check_kaiming(graph.module.weight, graph.name)
        for name, parameter in network.named_parameters():
            if "norm" in name:
                assert bool((parameter == (1.0 if name.endswith("weight") else 0.0)).all()), name
    normal = full.classifier.weight.detach() * math.sqrt(2048 / 2)
    assert float((normal**4).mean()) == pytest.approx(3, abs=0.05), "a uniform one has 1.8"
    bias = fresh.classifier.bias.detach()
    assert float(bias.abs().max()) <= 2048**-0.5
    assert float(bias.std()) == pytest.approx(2048**-0.5 / math.sqrt(3), rel=0.1)


def test_norms_on_shortcuts_are_told_by_their_names(full: Any) -> None:
    """Q17: the four norms of ResNet-50's shortcuts and no other norm; the wide ResNet has none there."""
    names = [name for name, module in full.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(names) == 53
    on_shortcuts = [name for name in names if "shortcut" in name.split(".")]
    assert on_shortcuts == [f"layer{stage}.0.shortcut.norm" for stage in (1, 2, 3, 4)]
    wide = meta_network(WIDE)
    assert not [name for name, _ in wide.named_modules() if "shortcut" in name and "norm" in name]


@pytest.mark.parametrize("config", [THIN.model_copy(update={"image_size": 64}), SMALL_WIDE], ids=["resnet50", "wide"])
def test_bf16_rounds_products_only(config: Any) -> None:
    """Close to float32; norms and the sum that all blocks add to stay float32, and so do the weights' gradients."""
    network: Any = build_network(config, seed=2)
    size = config.image_size
    images = torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10
    dtypes: set[torch.dtype] = set()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda module, given, made: dtypes.update((given[0].dtype, made.dtype)))
        elif isinstance(module, torch.nn.Sequential):  # a stage of blocks
            module.register_forward_hook(lambda module, given, made: dtypes.add(made.dtype))
    loss = float(F.cross_entropy(network(images), labels).detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    rounded = F.cross_entropy(logits.float(), labels)
    rounded.backward()
    assert logits.dtype == torch.bfloat16
    assert float(rounded.detach()) == pytest.approx(loss, rel=0.05), "some fifty layers, each rounded"
    assert dtypes == {torch.float32}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("resnet50", {"width_multiplier": 0.01}, "leaves conv1 without a channel; the least is 0.015625"),
        ("resnet50", {"image_size": 31}, "greater than or equal to 32"),
        ("resnet50", {"dense_layers": 2}, "less than or equal to 1"),
        ("wide-resnet", {"depth": 21}, r"depth is 21; it must be 6 n \+ 4, such as 16 or 22"),
    ],
)
def test_wrong_settings_are_told(kind: Any, settings: dict[str, Any], sentence: str) -> None:
    """What is wrong, and what would be right."""
    config = ResNet50Config if kind == "resnet50" else WideResNetConfig
    with pytest.raises(ValueError, match=sentence):
        config(kind=kind, **settings)
