"""Live edges of ResNet-50 and the wide ResNet, proved by taking each edge away."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.references.brute_force import check_liveness
from torch import Tensor, nn

from dnw_core.config.residual_networks import ResNet50Config, WideResNetConfig
from dnw_core.models.residual.resnet50 import ResNet50
from dnw_core.models.residual.wide_resnet import WideResNet

Sparse = tuple[Any, dict[str, Tensor], Tensor]


def sparse_network(network: Any, edges_per_sender: float, seed: int) -> Sparse:
    """The network in float64 with few random edges and nothing else that stops a signal, its masks, and images."""
    generator = torch.Generator().manual_seed(seed)
    masks: dict[str, Tensor] = {}
    for graph in network.graphs():
        receivers, _, *kernel = graph.slots.shape
        chance = edges_per_sender / (receivers * math.prod(kernel))
        masks[graph.name] = torch.rand(graph.slots.shape, generator=generator) < chance
    return with_edges(network, masks, generator)


def with_edges(network: Any, masks: dict[str, Tensor], generator: torch.Generator) -> Sparse:
    """The network with these edges, all of them positive; the masks; images."""
    network.double().eval()
    for graph in network.graphs():
        weight = graph.module.get_parameter("weight")
        weight.copy_((0.5 + torch.rand(weight.shape, generator=generator, dtype=torch.float64)) * masks[graph.name])
    config = network.config
    images = torch.rand(3, 3, config.image_size, config.image_size, generator=generator, dtype=torch.float64)
    open_every_relu(network, images)
    return network, masks, images


def open_every_relu(network: Any, images: Tensor) -> None:
    """Norms shift upwards, so that what is left is the graph: by what they learned, or by the mean of what arrives.

    A norm that learns nothing has no mean to shift by where nothing ever arrives.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        if norm.affine:
            norm.bias += 1.0

    def shift(norm: Any, given: tuple[Tensor]) -> None:
        norm.running_mean.copy_(-(given[0] != 0).any(dim=0).flatten(1).any(dim=1).double())

    hooks = [norm.register_forward_pre_hook(shift) for norm in norms if not norm.affine]
    network(images)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("image_size", "norm_affine", "classifier", "edges"),
    [(32, True, "convolution", 1.2), (37, True, "linear", 1.0), (32, False, "convolution", 1.5)],
)
@torch.no_grad()
def test_resnet50_by_brute_force(image_size: int, norm_affine: bool, classifier: Any, edges: float) -> None:
    """Each edge is live exactly if the logits move without it: dead channels, padding, strides and pooling."""
    config = ResNet50Config(
        kind="resnet50",
        classes=10,
        image_size=image_size,
        width_multiplier=0.02,
        norm_affine=norm_affine,
        classifier=classifier,
    )
    check_liveness(*sparse_network(ResNet50(config), edges, seed=image_size))


@pytest.mark.parametrize(("image_size", "norm_affine", "edges"), [(6, True, 1.0), (8, False, 2.0)])
@torch.no_grad()
def test_wide_resnet_by_brute_force(image_size: int, norm_affine: bool, edges: float) -> None:
    """As for ResNet-50; maps of 6, 3 and 2 pixels, where a kernel's corners often meet padding only."""
    config = WideResNetConfig(kind="wide-resnet", depth=10, widen=1, image_size=image_size, norm_affine=norm_affine)
    check_liveness(*sparse_network(WideResNet(config), edges, seed=1))


@torch.no_grad()
def test_one_pixel_through_pooling() -> None:
    """By hand and by brute force: edges that lead from the last pixel of each map to the logits, and to nothing else.

    At 33 pixels the maps have 17, 9 (pooled), 5, 3 and 2. The classifier reads channel 0, and what reaches it of
    channel 1 comes from the last pixel; that one was the last of every map before. Pooling reads pixels 15 and 16 of
    the stem's there, which six rows and columns of its 7x7 kernels meet; the seventh meets padding.
    """
    config = ResNet50Config(kind="resnet50", classes=10, image_size=33, width_multiplier=0.02)
    network = ResNet50(config)
    masks = {graph.name: torch.zeros(graph.slots.shape, dtype=torch.bool) for graph in network.graphs()}
    masks["conv1"][:] = True
    for stage in (1, 2, 3):
        masks[f"layer{stage}.0.shortcut"][0, 0] = True
    masks["layer4.0.shortcut"][1, 0] = True
    masks["layer4.1.conv1"][0, 1] = True
    masks["layer4.1.conv2"][0, 0, 2, 2] = True
    masks["layer4.1.conv3"][0, 0] = True
    masks["classifier"][:, 0] = True
    edges = network.liveness(masks)["conv1"].edges
    expected = torch.zeros(edges.shape, dtype=torch.bool)
    expected[:, :, :6, :6] = True
    assert torch.equal(edges, expected)
    check_liveness(*with_edges(network, masks, torch.Generator().manual_seed(0)))
