"""What the networks without graphs have in common: features, mean over the pixels, linear classifier, cost.

No rule makes such a network sparse, so it tells the training loop that it has no graph, and its cost is counted in a
forward pass. The mean over the pixels stands where some libraries pool a fixed 7x7 map: the same function at 224
pixels, and one that is defined at 32. There is no dropout anywhere: the recipes of the paper have none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dnw_core.config import OrdinaryNetworkConfig
from dnw_core.models.graph import Graph, Liveness
from dnw_core.models.layers.batch_norm import BatchNorm2d, take_over_norms
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.record import Cost


class OrdinaryNetwork(nn.Module):
    """A network without graphs.

    Args:
        config: settings of the network.
        features: from images, [b, 3, h, w], to maps, [b, c, h / 32, w / 32].
        classifier: from the maps' means, [b, c], to logits, [b, classes].
    """

    def __init__(self, config: OrdinaryNetworkConfig, features: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        assert classifier.out_features == config.classes
        self.config = config
        take_over_norms(features)
        self.features = features
        self.classifier = classifier

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return logits, [b, classes]."""
        if images_bchw.device.type == "cpu":  # norm, activation and oneDNN's depthwise gradients are faster so
            images_bchw = images_bchw.contiguous(memory_format=torch.channels_last)
        maps = self.features(images_bchw)
        logits: Tensor = self.classifier(at_least_float32(maps).mean(dim=(2, 3)))
        return logits

    def graphs(self) -> list[Graph]:
        """None."""
        return []

    def liveness(self, masks: dict[str, Tensor]) -> dict[str, Liveness]:
        """Nothing: there is no graph to tell of."""
        return {}

    def cost(self, masks: dict[str, Tensor]) -> Cost:
        """Parameters and MACs at the configured image size (``network_cost``)."""
        return network_cost(self, self.config.image_size)


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: nn.Module | None = None
) -> nn.Sequential:
    """Convolution without a bias, padded to keep the pixels that its stride leaves; batch norm; activation, if any."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [convolution, BatchNorm2d(outputs)]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation)


def pooled_stem(channels: int) -> nn.Sequential:
    """The ShuffleNet papers' beginning: 3x3 convolution, norm, ReLU, 3x3 max-pool, each of stride two."""
    return nn.Sequential(
        conv_norm(3, channels, 3, stride=2, activation=nn.ReLU(inplace=True)), nn.MaxPool2d(3, stride=2, padding=1)
    )


Weighing = nn.Conv2d | nn.Linear  # what multiplies
TRAINED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)  # what may hold parameters here


def network_cost(network: nn.Module, image_size: int) -> Cost:
    """Return the cost of an image of ``image_size`` pixels a side; everything is live, and nothing is an edge.

    ``parameters`` has the weights of convolutions and linear layers, without norms and biases; with these, it is what
    papers on ordinary networks print: ``parameters_with_norm``.

    Raises:
        AssertionError: if a part of the network multiplies in a way that is not counted here.
    """
    macs = multiply_adds(network, image_size)
    weights = sum(module.weight.numel() for module in network.modules() if isinstance(module, Weighing))
    trained = sum(parameter.numel() for parameter in network.parameters())
    return Cost(
        parameters=weights,
        parameters_with_norm=trained,
        parameters_allocated=trained,
        live_parameters=weights,
        edges=0,
        live_edges=0,
        nodes=0,
        live_nodes=0,
        macs=macs,
        live_macs=macs,
        dense_macs=macs,
    )


def multiply_adds(network: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of one image; the network itself is neither run nor changed.

    Raises:
        AssertionError: as ``network_cost``.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    found: dict[str, int] = {}
    for name, module in shadow.named_modules():
        holds = any(True for _ in module.parameters(recurse=False))
        assert not holds or isinstance(module, TRAINED), f"{name}: {type(module).__name__} has no rule of cost"
        if isinstance(module, Weighing):
            found[name] = 0
            module.register_forward_hook(_count_into(found, name))
        elif isinstance(module, nn.BatchNorm2d):  # changes no shape, and is slow on meta tensors
            module.forward = _unchanged  # type: ignore[method-assign, assignment]
    shadow(torch.empty(1, 3, image_size, image_size, device="meta"))
    idle = [name for name, macs in found.items() if not macs]
    assert not idle, f"no image passes through {', '.join(idle)}: what it multiplies is not counted"
    return sum(found.values())


def _unchanged(maps: Tensor) -> Tensor:
    return maps


def _count_into(found: dict[str, int], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def count(module: nn.Module, given: object, made: Tensor) -> None:
        assert isinstance(module, Weighing)
        found[name] += made.numel() * module.weight[0].numel()

    return count
