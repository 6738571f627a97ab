"""ShuffleNetV1 with three groups, and ShuffleNetV2 (facts 4.2): the builds of pytorchcv and torchvision.

Taken over with their initialisation and without trained weights; only the pooling at the end is ours, because
pytorchcv's wants a map of 7x7.
"""

from __future__ import annotations

from pytorchcv.models import mnasnet, shufflenet
from torch import nn
from torchvision.models import shufflenetv2

from dnw_core.config import MnasNetSmallConfig, ShuffleNetV1Config, ShuffleNetV2Config
from dnw_core.models.ordinary.base import OrdinaryNetwork

V1_BUILDS = {"x0.5": shufflenet.shufflenet_g3_wd2, "x1": shufflenet.shufflenet_g3_w1}
V2_BUILDS = {"x0.5": shufflenetv2.shufflenet_v2_x0_5, "x1": shufflenetv2.shufflenet_v2_x1_0}


class ShuffleNetV1(OrdinaryNetwork):
    """Stem and max-pool, stages of 4, 8 and 4 units of grouped 1x1 convolutions, mean, linear classifier."""

    def __init__(self, config: ShuffleNetV1Config) -> None:
        built = V1_BUILDS[config.width](num_classes=config.classes)
        super().__init__(config, built.features[:-1], built.output)


class ShuffleNetV2(OrdinaryNetwork):
    """Stem and max-pool, stages of 4, 8 and 4 units that work on half of the channels, 1x1 layer, mean, classifier."""

    def __init__(self, config: ShuffleNetV2Config) -> None:
        built = V2_BUILDS[config.width](num_classes=config.classes)
        features = nn.Sequential(built.conv1, built.maxpool, built.stage2, built.stage3, built.stage4, built.conv5)
        super().__init__(config, features, built.fc)


class MnasNetSmall(OrdinaryNetwork):
    """Stem, stages of inverted residual blocks, most with squeeze and excitation, 1x1 layer, mean, classifier."""

    def __init__(self, config: MnasNetSmallConfig) -> None:
        built = mnasnet.mnasnet_small(num_classes=config.classes)
        super().__init__(config, built.features[:-1], built.output)
