"""MnasNet-search2, which libraries call "small": the network of that paper's table whose layers are known (facts 4.2).

The build of pytorchcv with its initialisation and without trained weights; only the pooling at the end is ours, because
pytorchcv's wants a map of 7x7.
"""

from __future__ import annotations

from pytorchcv.models import mnasnet

from dnw_core.models.ordinary import OrdinaryNetwork
from dnw_core.models.ordinary_config import MnasNetSmallConfig


class MnasNetSmall(OrdinaryNetwork):
    """Stem, stages of inverted residual blocks, most with squeeze and excitation, 1x1 layer, mean, classifier."""

    def __init__(self, config: MnasNetSmallConfig) -> None:
        built = mnasnet.mnasnet_small(num_classes=config.classes)
        super().__init__(config, built.features[:-1], built.output)
