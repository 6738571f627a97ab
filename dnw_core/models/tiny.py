"""What the three tiny classifiers share: stem, node operations, read-out (facts 1.2).

Shapes: b images, c nodes (channels of the state), h x w pixels. Everything after the stem treats each image by
itself (the node norm is an instance norm), so on a CPU the graph works through the batch in pieces that fit
into the cache. That changes no number but the order in which weight gradients are summed.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.models.batch_norm import BatchNorm2d
from dnw_core.models.config import TinyConfig
from dnw_core.models.graph import EdgeWeight, Graph, Liveness
from dnw_core.models.precision import at_least_float32
from dnw_core.models.tiny_cost import tiny_cost
from dnw_core.record import Cost
from dnw_core.wiring.slots import Slots

STEM_WIDTH = 16
NORM_EPS = 1e-5


class TinyStem(nn.Sequential):
    """3 x H x W pixels to ``nodes`` maps at a quarter of the size; every convolution has a bias, no last ReLU."""

    def __init__(self, nodes: int) -> None:
        super().__init__(
            nn.Conv2d(3, STEM_WIDTH, 3, stride=2, padding=1),
            BatchNorm2d(STEM_WIDTH),
            nn.ReLU(),
            nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, stride=2, padding=1, groups=STEM_WIDTH),
            nn.Conv2d(STEM_WIDTH, nodes, 1),
            BatchNorm2d(nodes),
        )


class TinyNetwork(nn.Module):
    """Stem, one graph of ``config.nodes`` nodes, read-out. Subclasses say how the graph is run."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.side = config.image_size // 4
        self.stem = TinyStem(config.input_nodes)
        self.node_op = nn.Conv2d(config.nodes, config.nodes, 3, padding=1, groups=config.nodes, bias=False)
        self.edges = EdgeWeight(config.nodes, config.nodes)
        self.norm_weight = nn.Parameter(torch.ones(config.nodes))
        self.norm_bias = nn.Parameter(torch.zeros(config.nodes))
        self.classifier = nn.Linear(config.output_nodes, config.classes)

    @property
    def first_output(self) -> int:
        """Index of the first node that the read-out sees."""
        return self.config.nodes - self.config.output_nodes

    @property
    def applications(self) -> float:
        """How often the graph is applied to an image."""
        return 1.0

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return logits, [b, classes]."""
        features = self.read_graph(self.stem(images_bchw))
        logits: Tensor = self.classifier(features)
        return logits

    @abstractmethod
    def read_graph(self, inputs_bchw: Tensor) -> Tensor:
        """Run the graph on the stem's maps; return the pooled output nodes, [b, output_nodes]."""

    @abstractmethod
    def slots(self) -> Slots:
        """Which entries of the edge matrix may be edges."""

    @abstractmethod
    def graph_liveness(self, mask: Tensor) -> Liveness:
        """What of the kept edges ``mask`` is live."""

    def graphs(self) -> list[Graph]:
        """The one graph."""
        return [Graph("graph", self.edges, "weight", self.slots())]

    def liveness(self, masks: dict[str, Tensor]) -> dict[str, Liveness]:
        """What of the kept edges is live."""
        return {"graph": self.graph_liveness(masks["graph"])}

    def cost(self, masks: dict[str, Tensor]) -> Cost:
        """Parameters and MACs with these kept edges (facts 1.2 and 2.3)."""
        return tiny_cost(self, masks["graph"])

    def pool_start(self) -> int:
        """First row (and column) of the 2x2 patch that the read-out averages (Q8)."""
        return self.side // 2 - (2 if self.config.readout_crop == "reference" else 1)

    def pool(self, maps_bchw: Tensor) -> Tensor:
        """Average the patch of each map: [b, c, h, w] to [b, c]."""
        start = self.pool_start()
        return at_least_float32(maps_bchw[:, :, start : start + 2, start : start + 2]).mean(dim=(2, 3))


def node_operation(x_bchw: Tensor, kernel_c1kk: Tensor, padding: int = 1) -> Tensor:
    """ReLU, then each node's own 3x3 convolution.

    In float32 at every precision: nine multiply-adds a value wait for memory, and rounding them gains nothing.
    """
    if x_bchw.device.type == "cpu":
        # oneDNN's depthwise gradients are ten times faster in this memory order, and ReLU's want the same order
        x_bchw = x_bchw.contiguous(memory_format=torch.channels_last)
    with torch.autocast(x_bchw.device.type, enabled=False):
        return F.conv2d(F.relu(at_least_float32(x_bchw)), kernel_c1kk, padding=padding, groups=kernel_c1kk.shape[0])


def node_norm(x_bchw: Tensor, weight_c: Tensor, bias_c: Tensor) -> Tensor:
    """Instance norm with affine parameters: each map of each image to mean 0 and variance 1, scaled and shifted.

    Written as a layer norm over the pixels, in whichever of the two memory orders the maps already lie.
    """
    x_bchw = at_least_float32(x_bchw)
    normalise = partial(F.layer_norm, normalized_shape=x_bchw.shape[2:], eps=NORM_EPS)
    x_cbhw = x_bchw.permute(1, 0, 2, 3)
    y_bchw = normalise(x_cbhw).permute(1, 0, 2, 3) if x_cbhw.is_contiguous() else normalise(x_bchw)
    return torch.addcmul(bias_c[:, None, None], y_bchw, weight_c[:, None, None])
