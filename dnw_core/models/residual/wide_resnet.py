"""The pre-activation wide ResNet of Zagoruyko and Komodakis for small images; WRN-22-2 by default (facts 6).

Shapes: b images, c channels, h x w pixels. A 3x3 convolution; three groups of blocks, each twice norm, ReLU and 3x3
convolution; norm, ReLU, mean over the pixels, linear classifier with a bias. The second and third group begin with a
stride of two. Where a block changes the shape, its shortcut is a 1x1 convolution of what the first ReLU leaves; no norm
stands on it. There is no dropout.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import BlockLayers, WideResNetConfig
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.models.residual.base import ResidualNetwork, convolution, in_fast_order, initialise, normalised


class PreActivated(nn.Module):
    """Norm, ReLU and convolution, twice; the input is added."""

    def __init__(self, layers: BlockLayers, *, affine: bool) -> None:
        super().__init__()
        first, second = layers.path
        self.norm1 = BatchNorm2d(first.inputs, affine=affine)
        self.conv1 = convolution(first)
        self.norm2 = BatchNorm2d(second.inputs, affine=affine)
        self.conv2 = convolution(second)
        self.shortcut = convolution(layers.shortcut) if layers.shortcut else None

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return the next block's maps, [b, outputs, h / stride, w / stride]."""
        active = F.relu(normalised(self.norm1, maps_bchw), inplace=True)
        passed = maps_bchw if self.shortcut is None else self.shortcut(active)
        made: Tensor = self.conv1(active)
        made = self.conv2(F.relu(normalised(self.norm2, made), inplace=True))
        return at_least_float32(passed) + made  # the maps that all blocks add to are never rounded


class WideResNet(ResidualNetwork):
    """Stem, three groups of blocks, norm, mean over the pixels, linear classifier."""

    config: WideResNetConfig

    def __init__(self, config: WideResNetConfig) -> None:
        super().__init__(config)
        read_out = config.read_out()
        self.conv1 = convolution(config.stem())
        self.group1, self.group2, self.group3 = (
            nn.Sequential(*(PreActivated(block, affine=config.norm_affine) for block in stage))
            for stage in config.stages()
        )
        self.norm = BatchNorm2d(read_out.inputs, affine=config.norm_affine)
        self.classifier = nn.Linear(read_out.inputs, read_out.outputs)
        initialise(self.classifier.weight)

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return logits, [b, classes]."""
        maps = self.conv1(in_fast_order(images_bchw))
        for group in (self.group1, self.group2, self.group3):
            maps = group(maps)
        maps = F.relu(normalised(self.norm, maps), inplace=True)
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits
