"""ResNet-50 v1.5, with a sparse classifier (facts 3).

Shapes: b images, c channels, h x w pixels. A 7x7 convolution, norm, ReLU and max-pooling; four stages of bottleneck
blocks, 1x1 down, 3x3, 1x1 up, with a norm after each; mean over the pixels; classifier. "v1.5": a stage is strided in
its first 3x3 convolution, not in the 1x1 before it. The last norm of a block starts at scale one, like all others.

25,502,912 weights in 54 tensors; norms have 53,120 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import BlockLayers, ResNet50Config
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.residual.base import ResidualNetwork, Shortcut, convolution, in_fast_order, initialise, normalised


class Bottleneck(nn.Module):
    """Three convolutions, each with its norm; the input is added before the last ReLU."""

    def __init__(self, layers: BlockLayers, *, affine: bool) -> None:
        super().__init__()
        reduce, filter_, expand = layers.path
        self.conv1 = convolution(reduce)
        self.norm1 = BatchNorm2d(reduce.outputs, affine=affine)
        self.conv2 = convolution(filter_)
        self.norm2 = BatchNorm2d(filter_.outputs, affine=affine)
        self.conv3 = convolution(expand)
        self.norm3 = BatchNorm2d(expand.outputs, affine=affine)
        self.shortcut = Shortcut(layers.shortcut, affine=affine) if layers.shortcut else None

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return the next block's maps, [b, outputs, h / stride, w / stride]."""
        made = F.relu(normalised(self.norm1, self.conv1(maps_bchw)), inplace=True)
        made = F.relu(normalised(self.norm2, self.conv2(made)), inplace=True)
        passed = maps_bchw if self.shortcut is None else self.shortcut(maps_bchw)
        return F.relu(normalised(self.norm3, self.conv3(made)).add_(passed), inplace=True)


class ResNet50(ResidualNetwork):
    """Stem, 16 bottleneck blocks in four stages, mean over the pixels, classifier."""

    config: ResNet50Config

    def __init__(self, config: ResNet50Config) -> None:
        super().__init__(config)
        stem, read_out = config.stem(), config.read_out()
        self.conv1 = convolution(stem)
        self.norm1 = BatchNorm2d(stem.outputs, affine=config.norm_affine)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*(Bottleneck(block, affine=config.norm_affine) for block in stage))
            for stage in config.stages()
        )
        self.classifier: nn.Conv2d | nn.Linear
        if config.classifier == "convolution":
            self.classifier = convolution(read_out)
        else:
            self.classifier = nn.Linear(read_out.inputs, read_out.outputs)
            initialise(self.classifier.weight)

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return logits, [b, classes]."""
        maps = F.relu(normalised(self.norm1, self.conv1(in_fast_order(images_bchw))), inplace=True)
        maps = F.max_pool2d(maps, 3, stride=2, padding=1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps = stage(maps)
        means_bchw = maps.mean(dim=(2, 3), keepdim=True)
        if isinstance(self.classifier, nn.Linear):
            means_bchw = means_bchw.flatten(1)
        logits: Tensor = self.classifier(means_bchw)
        return logits.flatten(1)
