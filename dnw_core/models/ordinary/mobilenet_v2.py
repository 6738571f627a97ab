"""MobileNetV2 with the widths that come nearest to the published multiply-adds (facts 4.2).

The ShuffleNetV2 paper prints multiply-adds of its own implementation at four widths and no channel counts. Of the ways
to scale and round that were searched, one comes nearest to all four, and it is short: *every* channel count of the full
network, the expanded ones and the last 1x1 layer's included, is scaled and rounded up to a multiple of eight, to 16 at
least; the stem keeps its 32. docs/deviations.md has the figures and what other ways come to.

Inverted residual blocks: 1x1 to the expanded channels, 3x3 depthwise, 1x1 down; norm after each, ReLU6 after the first
two, the input added where it has the output's shape.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from dnw_core.config import MobileNetV2Config
from dnw_core.models.ordinary.base import OrdinaryNetwork, conv_norm

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class Stage(NamedTuple):
    """Blocks of one channel count at full width: how far they expand, how many they are, stride of the first."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand (if ``expanded`` is given), filter each channel, project."""

    def __init__(self, inputs: int, expanded: int | None, outputs: int, stride: int) -> None:
        super().__init__()
        self.adds_input = stride == 1 and inputs == outputs
        inner = inputs if expanded is None else expanded
        self.layers = nn.Sequential(
            nn.Identity() if expanded is None else conv_norm(inputs, inner, 1, activation=nn.ReLU6(inplace=True)),
            conv_norm(inner, inner, 3, stride=stride, groups=inner, activation=nn.ReLU6(inplace=True)),
            conv_norm(inner, outputs, 1),
        )

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return maps, [b, outputs, h / stride, w / stride]."""
        made: Tensor = self.layers(maps_bchw)
        return maps_bchw + made if self.adds_input else made


class MobileNetV2(OrdinaryNetwork):
    """Stem, seven stages of inverted residual blocks, 1x1 layer, mean over the pixels, linear classifier."""

    def __init__(self, config: MobileNetV2Config) -> None:
        layers: list[nn.Module] = [conv_norm(3, STEM_CHANNELS, 3, stride=2, activation=nn.ReLU6(inplace=True))]
        inputs, full_inputs = STEM_CHANNELS, STEM_CHANNELS
        for stage in STAGES:
            outputs = config.channels(stage.channels)
            for index in range(stage.blocks):
                expanded = None if stage.expansion == 1 else config.channels(stage.expansion * full_inputs)
                layers.append(InvertedResidual(inputs, expanded, outputs, 1 if index else stage.stride))
                inputs, full_inputs = outputs, stage.channels
        head = config.channels(HEAD_CHANNELS)
        layers.append(conv_norm(inputs, head, 1, activation=nn.ReLU6(inplace=True)))
        super().__init__(config, nn.Sequential(*layers), nn.Linear(head, config.classes))
