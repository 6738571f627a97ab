"""Gradients of whole networks on a CPU are as exact as a plain network's, in whatever memory order they run.

``benchmarks/exactness.py`` measures the published sizes; here the networks are thin and shallow, images and batch as
large. ReLU is made smooth: a single value on the other side of zero costs more than all other rounding.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import NETWORKS, GraphBlock, GraphMobileNetConfig
from dnw_core.models.build import build_network
from dnw_core.models.layers import channel_major
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet

BATCH = 128
SMALL: dict[str, tuple[dict[str, Any], int]] = {
    "mobilenet-v1": ({"width_multiplier": 0.25}, 32),
    "wide-resnet": ({"depth": 10, "widen": 1}, 32),
    "resnet50": ({"image_size": 64, "width_multiplier": 0.1, "classes": 10}, 64),
}
THIN_BLOCKS = (GraphBlock(8, 16, 1, 1), GraphBlock(16, 24, 2, 2), GraphBlock(24, 32, 2, 3))


def small_network(kind: str) -> tuple[nn.Module, int]:
    """A network of the kind, and the pixels a side of its images."""
    if kind == "graph-mobilenet":
        torch.manual_seed(0)
        return GraphMobileNet(GraphMobileNetConfig(kind=kind), THIN_BLOCKS), 32
    settings, side = SMALL[kind]
    return build_network(NETWORKS[kind](kind=kind, **settings), seed=0), side


def plain_copy(network: nn.Module) -> nn.Module:
    """A copy with PyTorch's own norms, in which every map is contiguous before it is normalised or filtered."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, BatchNorm2d):
            module.__class__ = nn.BatchNorm2d
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return plain


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Of the mean loss, in float64; the labels count up."""
    labels = torch.arange(len(images)) % 10
    F.cross_entropy(network.train()(images), labels).backward()
    return [parameter.grad.double() for parameter in network.parameters() if parameter.grad is not None]


def largest_error(found: list[Tensor], right: list[Tensor]) -> float:
    """Of all parameters, relative to each one's largest gradient."""
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, right, strict=True))


@pytest.mark.parametrize("kind", ["graph-mobilenet", *SMALL])
def test_gradients_are_as_exact_as_a_contiguous_network_s(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64, on one thread: 0.5 to 1.2 times a plain network's error; with PyTorch's norm 4 to 14 times."""
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: F.softplus(x))
    network, side = small_network(kind)
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    plain = plain_copy(network)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = gradients(network, images)
        monkeypatch.setattr(channel_major, "LARGEST_SIDE", 0)  # nothing in channel-major order
        exact = gradients(copy.deepcopy(plain).double(), images.double())
        assert largest_error(found, exact) <= 2.5 * largest_error(gradients(plain, images), exact)
    finally:
        torch.set_num_threads(before)
