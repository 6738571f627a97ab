"""DenseNet on the stage table of the ShuffleNetV2 paper, its widths chosen for the multiply-adds (facts 4.2).

Published: 24 channels and a max-pool at the beginning, 4, 8 and 4 dense layers at 28, 14 and 7 pixels a side, 1,024
channels at the end, and the multiply-adds; no growth. Ours is the DenseNet-BC of its own paper: a dense layer is norm,
ReLU, 1x1 to four times the growth, norm, ReLU, 3x3, and joins its output to its input; a transition is norm, ReLU, 2x2
mean, 1x1. The first transition leads to twice the growth, which is where DenseNet-BC starts. Two things differ from
that paper: the mean stands before the 1x1 convolution, which gives the same numbers at a quarter of the cost, and
transitions keep 0.55 of the channels, not half: with it whole growths of 10 and 21 come within 1 % of the printed 42M
and 142M (docs/deviations.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnw_core.config import LightDenseNetConfig
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.ordinary.base import OrdinaryNetwork, conv_norm, pooled_stem

STEM_CHANNELS = 24
STAGE_LAYERS = (4, 8, 4)
HEAD_CHANNELS = 1024
BOTTLENECK = 4  # growths
KEPT_PERCENT = 55  # of the channels, by the second and third transition


class DenseLayer(nn.Module):
    """Adds ``growth`` channels to its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            conv_norm(inputs, BOTTLENECK * growth, 1, activation=nn.ReLU(inplace=True)),
            nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return the input and the new maps, [b, inputs + growth, h, w]."""
        return torch.cat((maps_bchw, self.layers(maps_bchw)), dim=1)


def transition(inputs: int, outputs: int) -> nn.Sequential:
    """Half the pixels a side, ``outputs`` channels."""
    return nn.Sequential(
        BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False)
    )


class LightDenseNet(OrdinaryNetwork):
    """Stem and max-pool, three stages of a transition and dense layers, 1x1 layer, mean, linear classifier."""

    def __init__(self, config: LightDenseNetConfig) -> None:
        layers: list[nn.Module] = [pooled_stem(STEM_CHANNELS)]
        channels, kept = STEM_CHANNELS, 2 * config.growth
        for dense_layers in STAGE_LAYERS:
            layers.append(transition(channels, kept))
            channels = kept
            for _ in range(dense_layers):
                layers.append(DenseLayer(channels, config.growth))
                channels += config.growth
            kept = channels * KEPT_PERCENT // 100
        layers += [BatchNorm2d(channels), nn.ReLU(inplace=True)]
        layers.append(conv_norm(channels, HEAD_CHANNELS, 1, activation=nn.ReLU(inplace=True)))
        super().__init__(config, nn.Sequential(*layers), nn.Linear(HEAD_CHANNELS, config.classes))
