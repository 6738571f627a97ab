"""The light Xception that the ShuffleNetV2 paper compares with: residual blocks of separable convolutions (facts 4.2).

A separable convolution is a 3x3 depthwise one with a norm and a 1x1 one with a norm, ReLU after the second only. A
block has three of them, to m, m and 4m channels; a stage has 4, 8 and 4 blocks, and its first halves the pixels, with a
separable convolution instead of the identity beside it. m doubles from stage to stage.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import LightXceptionConfig
from dnw_core.models.ordinary.base import OrdinaryNetwork, conv_norm, pooled_stem

STAGE_BLOCKS = (4, 8, 4)


def separable(inputs: int, outputs: int, *, stride: int = 1, activation: nn.Module | None = None) -> nn.Sequential:
    """Depthwise 3x3 and norm, pointwise and norm, activation if any."""
    return nn.Sequential(
        conv_norm(inputs, inputs, 3, stride=stride, groups=inputs),
        conv_norm(inputs, outputs, 1, activation=activation),
    )


class XceptionBlock(nn.Module):
    """Three separable convolutions beside the identity, or beside a strided one; ReLU on the sum."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * middle
        self.layers = nn.Sequential(
            separable(inputs, middle, stride=stride, activation=nn.ReLU(inplace=True)),
            separable(middle, middle, activation=nn.ReLU(inplace=True)),
            separable(middle, outputs),
        )
        self.beside = nn.Identity() if stride == 1 else separable(inputs, outputs, stride=stride)

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return maps, [b, 4 * middle, h / stride, w / stride]."""
        return F.relu(self.layers(maps_bchw) + self.beside(maps_bchw), inplace=True)


class LightXception(OrdinaryNetwork):
    """Stem and max-pool, three stages of blocks, mean over the pixels, linear classifier."""

    def __init__(self, config: LightXceptionConfig) -> None:
        layers: list[nn.Module] = [pooled_stem(config.stem_channels)]
        inputs, middle = config.stem_channels, config.middle_channels
        for blocks in STAGE_BLOCKS:
            for index in range(blocks):
                layers.append(XceptionBlock(inputs, middle, 1 if index else 2))
                inputs = 4 * middle
            middle *= 2
        super().__init__(config, nn.Sequential(*layers), nn.Linear(inputs, config.classes))
