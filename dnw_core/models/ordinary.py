"""What the networks without graphs have in common: features, mean over the pixels, linear classifier, cost.

No rule makes such a network sparse, so it tells the training loop that it has no graph, and its cost is counted in a
forward pass. The mean over the pixels stands where some libraries pool a fixed 7x7 map: the same function at 224
pixels, and one that is defined at 32. There is no dropout anywhere: the recipes of the paper have none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnw_core.models.batch_norm import BatchNorm2d, take_over_norms
from dnw_core.models.graph import Graph, Liveness
from dnw_core.models.ordinary_config import OrdinaryNetworkConfig
from dnw_core.models.ordinary_cost import network_cost
from dnw_core.models.precision import at_least_float32
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
        """Parameters and MACs at the configured image size (``ordinary_cost``)."""
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
