"""The ordinary MobileNetV1: a chain of depthwise and pointwise convolutions, norm and ReLU after each (facts 4.1).

Shapes: b images, c channels, h x w pixels. The 13 pointwise convolutions are its graphs, but for the first
``dense_layers``, which no rule touches: an edge joins a channel of one layer to a channel of the next. A node is a
channel that sends; its own operation is the depthwise convolution, with norm and ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import MobileNetV1Config, PointwiseLayer
from dnw_core.models.graph import Graph, Liveness
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.models.mobilenet.cost import Chain, Stage, chain_cost
from dnw_core.record import Cost
from dnw_core.wiring.slots import Slots

LARGEST_UNSTRIDED_IMAGE = 64  # pixels a side; the stem halves larger images


class DepthwisePointwise(nn.Module):
    """Each channel's own 3x3 convolution, norm, ReLU; then the edges to the next layer's channels, norm, ReLU."""

    def __init__(self, layer: PointwiseLayer) -> None:
        super().__init__()
        self.stride = layer.stride
        self.depthwise = nn.Conv2d(
            layer.inputs, layer.inputs, 3, stride=layer.stride, padding=1, groups=layer.inputs, bias=False
        )
        self.depthwise_norm = BatchNorm2d(layer.inputs)
        self.pointwise = nn.Conv2d(layer.inputs, layer.outputs, 1, bias=False)
        self.pointwise_norm = BatchNorm2d(layer.outputs)

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return the next layer's maps, [b, outputs, h / stride, w / stride]."""
        # float32 at every precision: nine multiply-adds a value wait for memory, and rounding them gains nothing
        with torch.autocast(maps_bchw.device.type, enabled=False):
            maps_bchw = self.depthwise(maps_bchw)
        return norm_relu(self.pointwise_norm, self.pointwise(norm_relu(self.depthwise_norm, maps_bchw)))


def norm_relu(norm: nn.BatchNorm2d, maps_bchw: Tensor) -> Tensor:
    """Batch norm and ReLU, in float32 at every precision."""
    with torch.autocast(maps_bchw.device.type, enabled=False):
        return F.relu(norm(at_least_float32(maps_bchw)), inplace=True)


class MobileNetV1(nn.Module):
    """Stem, 13 pairs of convolutions, mean over the pixels, linear classifier."""

    def __init__(self, config: MobileNetV1Config) -> None:
        super().__init__()
        self.config = config
        layers = config.layers()
        self.stem_stride = 1 if config.image_size <= LARGEST_UNSTRIDED_IMAGE else 2
        self.stem = nn.Conv2d(3, layers[0].inputs, 3, stride=self.stem_stride, padding=1, bias=False)
        self.stem_norm = BatchNorm2d(layers[0].inputs)
        self.pairs = nn.ModuleList(DepthwisePointwise(layer) for layer in layers)
        self.classifier = nn.Linear(layers[-1].outputs, config.classes)

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return logits, [b, classes]."""
        if images_bchw.device.type == "cpu":  # norm, ReLU and oneDNN's depthwise gradients are faster in this order
            images_bchw = images_bchw.contiguous(memory_format=torch.channels_last)
        maps = norm_relu(self.stem_norm, self.stem(images_bchw))
        for pair in self.pairs:
            maps = pair(maps)
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits

    def _pairs(self) -> list[DepthwisePointwise]:
        return [pair for pair in self.pairs if isinstance(pair, DepthwisePointwise)]

    def graphs(self) -> list[Graph]:
        """The pointwise convolutions but the dense layers; weights [receivers, senders, 1, 1], every slot usable."""
        return [
            Graph(f"pointwise-{index}", pair.pointwise, "weight", Slots(tuple(pair.pointwise.weight.shape)))
            for index, pair in enumerate(self._pairs())
            if index >= self.config.dense_layers
        ]

    def liveness(self, masks: dict[str, Tensor]) -> dict[str, Liveness]:
        """From the classifier backwards: an edge is live if its receiver is read or has a live outgoing edge itself.

        A channel that receives nothing still sends a constant (its norm's bias), so its edges stay live, as in the
        graph network (Q21).
        """
        found: dict[str, Liveness] = {}
        matters: Tensor | None = None  # receivers whose maps can influence the output; the last layer's all do
        for index in reversed(range(self.config.dense_layers, len(self.pairs))):
            name = f"pointwise-{index}"
            edges = masks[name].cpu()
            if matters is not None:
                edges = edges & matters[:, None, None, None]
            matters = edges.any(dim=0).flatten()
            found[name] = Liveness(edges=edges, nodes=matters)
        return {name: found[name] for name in masks}

    def cost(self, masks: dict[str, Tensor]) -> Cost:
        """Parameters and MACs with these kept edges (facts 2.3)."""
        stages = [
            Stage(f"pointwise-{index}", layer.stride, layer.inputs, layer.outputs)
            for index, layer in enumerate(self.config.layers())
        ]
        chain = Chain(self, self.config.image_size, self.stem_stride, stages, self.config.classes)
        return chain_cost(chain, masks)
