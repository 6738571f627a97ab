"""Settings of the networks of nodes and edges, and of MobileNetV1 (free of torch)."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationInfo, model_validator
from typing_extensions import override

from dnw_core.config.base import TO_BE_TRAINED
from dnw_core.config.budget import GraphSize, WidthLaw
from dnw_core.config.network_base import ImageNetworkConfig
from dnw_core.config.rule_base import Variant


class TinyConfig(ImageNetworkConfig):
    """What the three tiny classifiers have in common (facts 1.2): one graph of 800 nodes at 8x8 pixels."""

    nodes: int = Field(default=800, gt=0, description="channels of the state")
    input_nodes: int = Field(default=32, gt=0, description="nodes that the stem writes")
    output_nodes: int = Field(default=100, gt=0, description="last nodes, read by the classifier")
    image_size: int = Field(default=32, gt=0, description="pixels a side; the graph works at a quarter of it")
    readout_crop: Variant = Field(
        default="reference",
        description="Q8: average rows and columns 2-3 of the 8x8 map (reference) or the true centre 3-4",
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TinyConfig:
        if self.input_nodes + self.output_nodes > self.nodes:
            raise ValueError(
                f"input_nodes + output_nodes is {self.input_nodes + self.output_nodes}, more than nodes ({self.nodes})"
            )
        if self.image_size % 4 or self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of 4 and at least 32")
        return self

    @override
    def graph_sizes(self) -> list[GraphSize]:
        return [GraphSize("graph", self.nodes**2)]


class TinyStaticConfig(TinyConfig):
    """Feed-forward: blocks of nodes in order, each feeding all later ones (facts 1.5)."""

    kind: Literal["tiny-static"]
    implementation: ClassVar[str] = "dnw_core.models.tiny.static:TinyStatic"
    block_nodes: int = Field(default=192, gt=0, description="nodes of a block after the input block")


class TinyDiscreteConfig(TinyConfig):
    """Discrete time: the same graph applied several times (facts 1.3)."""

    kind: Literal["tiny-discrete"]
    implementation: ClassVar[str] = "dnw_core.models.tiny.discrete:TinyDiscrete"
    steps: int = Field(default=5, gt=0, description="applications of the graph")


class TinyContinuousConfig(TinyConfig):
    """Continuous time: dZ/dt is the graph's output, integrated from 0 to 1 by dopri5 (facts 1.4)."""

    kind: Literal["tiny-continuous"]
    implementation: ClassVar[str] = "dnw_core.models.tiny.continuous:TinyContinuous"
    rtol: float = Field(default=1e-3, gt=0)
    atol: float = Field(default=1e-3, gt=0)
    ode_start: Variant = Field(
        default="reference",
        description="Q9: clamp the start state at zero, as the in-place ReLU does (reference), or leave it",
    )
    ode_ends: Variant = Field(
        default="corrected",  # as before there was a choice: older trials keep their fingerprints
        description="Q9: clamp the state that each of the solver's steps ends on at zero, as the in-place ReLU does "
        "(reference), or leave it; goes with ode_start",
    )

    @model_validator(mode="after")
    def _check_states(self, info: ValidationInfo) -> TinyContinuousConfig:
        if info.context == TO_BE_TRAINED and self.ode_start != self.ode_ends:
            raise ValueError(
                f"ode_start is {self.ode_start} and ode_ends is {self.ode_ends}, which is neither the released network "
                "(both reference) nor the corrected one (both corrected); give both alike"
            )
        return self


class GraphBlock(NamedTuple):
    """One block of the MobileNetV1-like graph (facts 2.1)."""

    inputs: int  # input nodes
    outputs: int  # nodes of each group
    stride: int  # of the input nodes' operation
    groups: int  # groups of receivers: hidden ones, then the outputs

    @property
    def senders(self) -> int:
        """Columns of the weight: input nodes and hidden groups."""
        return self.inputs + (self.groups - 1) * self.outputs

    @property
    def receivers(self) -> int:
        """Rows of the weight: hidden groups and outputs."""
        return self.groups * self.outputs

    @property
    def law(self) -> WidthLaw:
        """MobileNetV1's pointwise layers here have 1/groups of the slots, and scale with the square of the width."""
        return WidthLaw(power=2, parts=self.groups)


GRAPH_BLOCKS = (
    GraphBlock(32, 64, 1, 1),
    GraphBlock(64, 128, 2, 2),
    GraphBlock(128, 256, 2, 2),
    GraphBlock(256, 512, 2, 6),
    GraphBlock(512, 1024, 2, 2),
)


class GraphMobileNetConfig(ImageNetworkConfig):
    """MobileNetV1 as five blocks of nodes at full width, with edges between any two groups of a block (facts 2.1)."""

    kind: Literal["graph-mobilenet"]
    implementation: ClassVar[str] = "dnw_core.models.mobilenet.graph_mobilenet:GraphMobileNet"
    classifier: Literal["linear", "edges"] = Field(
        default="linear",
        description="linear: dense with a bias; edges: a graph of its own without one, as in the paper's Small rows",
    )

    @override
    def graph_sizes(self) -> list[GraphSize]:
        """The five blocks, and the classifier where it holds edges."""
        sizes = [
            GraphSize(f"block-{index}", block.receivers * block.senders, block.law)
            for index, block in enumerate(GRAPH_BLOCKS)
        ]
        if self.classifier == "edges":
            sizes.append(GraphSize("classifier", self.classes * GRAPH_BLOCKS[-1].outputs, CLASSIFIER_LAW))
        return sizes


CLASSIFIER_LAW = WidthLaw(power=1, parts=1)  # "Small": the classifier keeps d, not d squared (facts 2.2)


class PointwiseLayer(NamedTuple):
    """One depthwise-pointwise pair of MobileNetV1: channels in and out, stride of the depthwise convolution."""

    inputs: int
    outputs: int
    stride: int


MOBILENET_V1_LAYERS = (
    PointwiseLayer(32, 64, 1),
    PointwiseLayer(64, 128, 2),
    PointwiseLayer(128, 128, 1),
    PointwiseLayer(128, 256, 2),
    PointwiseLayer(256, 256, 1),
    PointwiseLayer(256, 512, 2),
    *(PointwiseLayer(512, 512, 1),) * 5,
    PointwiseLayer(512, 1024, 2),
    PointwiseLayer(1024, 1024, 1),
)


class MobileNetV1Config(ImageNetworkConfig):
    """The ordinary MobileNetV1, every channel count scaled and rounded down (facts 4.1)."""

    cost_includes_norms: ClassVar[bool] = True
    kind: Literal["mobilenet-v1"]
    implementation: ClassVar[str] = "dnw_core.models.mobilenet.mobilenet_v1:MobileNetV1"
    width_multiplier: float = Field(default=1.0, gt=0, le=4)
    dense_layers: int = Field(
        default=0, ge=0, lt=13, description="first pointwise layers that are no graphs: no rule makes them sparse"
    )

    @model_validator(mode="after")
    def _check_width(self) -> MobileNetV1Config:
        if self.channels(32) < 1:
            raise ValueError(f"width_multiplier is {self.width_multiplier}, which leaves the stem without a channel")
        return self

    def channels(self, full: int) -> int:
        """Return how many of ``full`` channels the width leaves."""
        return int(self.width_multiplier * full)

    def layers(self) -> list[PointwiseLayer]:
        """The pairs at this width."""
        return [
            PointwiseLayer(self.channels(layer.inputs), self.channels(layer.outputs), layer.stride)
            for layer in MOBILENET_V1_LAYERS
        ]

    @override
    def graph_sizes(self) -> list[GraphSize]:
        return [
            GraphSize(f"pointwise-{index}", layer.inputs * layer.outputs)
            for index, layer in enumerate(self.layers())
            if index >= self.dense_layers
        ]
