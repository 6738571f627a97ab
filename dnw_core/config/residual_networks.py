"""Settings of the residual networks, and the weights they hold (free of torch; facts 3, 6).

A network is a stem, blocks and a classifier. Its weights are listed here once, in the order of the forward pass, with
the maps that they read and write: modules are built from this list, and liveness and cost are arithmetic on it. Every
weight is a graph, the classifier's too, but for the first ``dense_layers``.

Norms are not counted: the paper and those after it state how many *weights* are kept, of 25,502,912 (facts 3), and
norms are never pruned. Counting them would bring no published figure nearer.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator
from typing_extensions import override

from dnw_core.config.budget import GraphSize
from dnw_core.config.network_base import ImageNetworkConfig


class KernelLayer(NamedTuple):
    """One weight, [outputs, inputs, kernel, kernel]; padded so that a stride of one keeps the pixels."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    side_in: int  # pixels a side of the maps that it reads

    @property
    def side(self) -> int:
        """Pixels a side of the maps that it writes."""
        return -(-self.side_in // self.stride)

    @property
    def weights(self) -> int:
        """Entries of the weight."""
        return self.outputs * self.inputs * self.kernel**2


class BlockLayers(NamedTuple):
    """One block: what the path makes of its input and what the shortcut does (None: nothing) are added."""

    path: tuple[KernelLayer, ...]
    shortcut: KernelLayer | None

    @property
    def outputs(self) -> int:
        """Channels that the block writes."""
        return self.path[-1].outputs

    @property
    def side(self) -> int:
        """Pixels a side of the maps that the block writes."""
        return self.path[-1].side

    @property
    def layers(self) -> list[KernelLayer]:
        """Its weights."""
        return [*self.path, self.shortcut] if self.shortcut else [*self.path]


class ResidualConfig(ImageNetworkConfig):
    """What the residual networks have in common.

    Attributes:
        pooled: whether 3x3 max-pooling of stride two follows the stem.
    """

    cost_needs_counts_only: ClassVar[bool] = True
    pooled: ClassVar[bool]
    dense_layers: int = Field(
        default=0, ge=0, le=1, description="first weights that are no graphs: no rule makes them sparse"
    )
    norm_affine: bool = Field(
        default=True, description="whether norms learn a scale and a shift; without them as in edge-popup (facts 7.2)"
    )

    def stem(self) -> KernelLayer:
        """The first convolution."""
        raise NotImplementedError

    def stages(self) -> list[list[BlockLayers]]:
        """The blocks, stage by stage."""
        raise NotImplementedError

    def blocks(self) -> list[BlockLayers]:
        """The blocks in order."""
        return [block for stage in self.stages() for block in stage]

    def read_out(self) -> KernelLayer:
        """The classifier: it reads the maps' means."""
        return KernelLayer("classifier", self.blocks()[-1].outputs, self.classes, 1, 1, 1)

    def layers(self) -> list[KernelLayer]:
        """All weights, in the order of the forward pass."""
        return [self.stem(), *(layer for block in self.blocks() for layer in block.layers), self.read_out()]

    @override
    def graph_sizes(self) -> list[GraphSize]:
        return [GraphSize(layer.name, layer.weights) for layer in self.layers()[self.dense_layers :]]


class Stage(NamedTuple):
    """Bottleneck blocks of one width: channels of their 3x3 convolutions, how many they are, stride of the first."""

    channels: int
    blocks: int
    stride: int


RESNET50_STAGES = (Stage(64, 3, 1), Stage(128, 4, 2), Stage(256, 6, 2), Stage(512, 3, 2))
STEM_CHANNELS = 64
EXPANSION = 4  # a bottleneck block writes four times the channels of its 3x3 convolution


class ResNet50Config(ResidualConfig):
    """ResNet-50 v1.5: the stride is on the 3x3 convolutions (facts 3). 54 weights."""

    pooled: ClassVar[bool] = True
    kind: Literal["resnet50"]
    implementation: ClassVar[str] = "dnw_core.models.residual.resnet50:ResNet50"
    classes: int = Field(default=1000, gt=1)
    image_size: int = Field(default=224, ge=32, description="pixels a side; the network halves it five times")
    width_multiplier: float = Field(default=1.0, gt=0, le=1, description="every channel count scaled, rounded down")
    classifier: Literal["convolution", "linear"] = Field(
        default="convolution",
        description="convolution: 1x1 without a bias, as in the paper's recipe (facts 0.9); linear: with a bias",
    )

    @model_validator(mode="after")
    def _check_width(self) -> ResNet50Config:
        if self.channels(STEM_CHANNELS) < 1:
            raise ValueError(
                f"width_multiplier is {self.width_multiplier}, which leaves conv1 without a channel; "
                f"the least is {1 / STEM_CHANNELS}"
            )
        return self

    def channels(self, full: int) -> int:
        """Return how many of ``full`` channels the width leaves."""
        return int(self.width_multiplier * full)

    @override
    def stem(self) -> KernelLayer:
        """7x7 of stride two."""
        return KernelLayer("conv1", 3, self.channels(STEM_CHANNELS), 7, 2, self.image_size)

    @override
    def stages(self) -> list[list[BlockLayers]]:
        """Four stages of bottleneck blocks; the first block of each has a convolution on its shortcut."""
        inputs, side = self.stem().outputs, -(-self.stem().side // 2)
        found: list[list[BlockLayers]] = []
        for number, stage in enumerate(RESNET50_STAGES, start=1):
            inner, outputs = self.channels(stage.channels), self.channels(EXPANSION * stage.channels)
            found.append([])
            for index in range(stage.blocks):
                name, stride = f"layer{number}.{index}", 1 if index else stage.stride
                reduce = KernelLayer(f"{name}.conv1", inputs, inner, 1, 1, side)
                filter_ = KernelLayer(f"{name}.conv2", inner, inner, 3, stride, side)
                expand = KernelLayer(f"{name}.conv3", inner, outputs, 1, 1, filter_.side)
                shortcut = None if index else KernelLayer(f"{name}.shortcut", inputs, outputs, 1, stride, side)
                found[-1].append(BlockLayers((reduce, filter_, expand), shortcut))
                inputs, side = outputs, expand.side
        return found


WIDE_STEM_CHANNELS = 16
WIDE_GROUPS = 3


class WideResNetConfig(ResidualConfig):
    """Pre-activation wide ResNet for small images; WRN-22-2 by default (facts 6)."""

    pooled: ClassVar[bool] = False
    kind: Literal["wide-resnet"]
    implementation: ClassVar[str] = "dnw_core.models.residual.wide_resnet:WideResNet"
    image_size: int = Field(default=32, ge=4, description="pixels a side; the network halves it twice")
    depth: int = Field(default=22, ge=10, description="layers: 6 n + 4, with n blocks in each of the three groups")
    widen: int = Field(default=2, gt=0, description="k: the groups have 16 k, 32 k and 64 k channels")

    @model_validator(mode="after")
    def _check_depth(self) -> WideResNetConfig:
        if (self.depth - 4) % 6:
            below = self.depth - (self.depth - 4) % 6
            raise ValueError(f"depth is {self.depth}; it must be 6 n + 4, such as {below} or {below + 6}")
        return self

    @override
    def stem(self) -> KernelLayer:
        """3x3 of stride one."""
        return KernelLayer("conv1", 3, WIDE_STEM_CHANNELS, 3, 1, self.image_size)

    @override
    def stages(self) -> list[list[BlockLayers]]:
        """Three groups of blocks of two 3x3 convolutions; a shortcut has a convolution where the shape changes."""
        inputs, side = WIDE_STEM_CHANNELS, self.image_size
        found: list[list[BlockLayers]] = []
        for number in range(1, WIDE_GROUPS + 1):
            outputs = WIDE_STEM_CHANNELS * self.widen * 2 ** (number - 1)
            found.append([])
            for index in range((self.depth - 4) // 6):
                name, stride = f"group{number}.{index}", 2 if number > 1 and index == 0 else 1
                first = KernelLayer(f"{name}.conv1", inputs, outputs, 3, stride, side)
                second = KernelLayer(f"{name}.conv2", outputs, outputs, 3, 1, first.side)
                changes = stride > 1 or inputs != outputs
                shortcut = KernelLayer(f"{name}.shortcut", inputs, outputs, 1, stride, side) if changes else None
                found[-1].append(BlockLayers((first, second), shortcut))
                inputs, side = outputs, second.side
        return found
