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

from dnw_core.config import TinyConfig
from dnw_core.models.graph import EdgeWeight, Graph, Liveness, any_along
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.record import Cost
from dnw_core.wiring.slots import Slots

NODE_OP_WEIGHTS = 9


def tiny_cost(network: TinyNetwork, mask: Tensor) -> Cost:
    """Return the cost with the kept edges ``mask``, [receivers, senders]."""
    mask = mask.cpu()
    live = network.graph_liveness(mask)
    slots = network.slots()
    nodes = network.config.nodes
    edges, live_edges = int(mask.count_nonzero()), int(live.edges.count_nonzero())
    senders, live_senders = int(any_along(mask, 0).sum()), int(live.nodes.sum())
    usable = slots.numel if slots.usable is None else int(slots.usable.count_nonzero())
    fixed = _count(network.stem) + _count(network.classifier)
    norm = network.norm_weight.numel() + network.norm_bias.numel()
    parameters = fixed + NODE_OP_WEIGHTS * nodes + edges
    pixels = network.side**2
    applications = network.applications

    def macs(edge_count: int, node_count: int) -> int:
        graph = (edge_count + NODE_OP_WEIGHTS * node_count) * pixels * applications
        return round(_stem_macs(network) + graph + _readout_macs(network))

    return Cost(
        parameters=parameters,
        parameters_with_norm=parameters + norm,
        parameters_allocated=fixed + NODE_OP_WEIGHTS * nodes + norm + mask.numel(),
        live_parameters=fixed + NODE_OP_WEIGHTS * live_senders + live_edges,
        edges=edges,
        live_edges=live_edges,
        nodes=nodes,
        live_nodes=live_senders,
        macs=macs(edges, senders),
        live_macs=macs(live_edges, live_senders),
        dense_macs=macs(usable, nodes),
        applications=applications,
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _stem_macs(network: TinyNetwork) -> int:
    """Weights of each convolution times its output pixels."""
    total = 0
    side = network.config.image_size
    for layer in network.stem:
        if isinstance(layer, nn.Conv2d):
            side //= layer.stride[0]
            total += layer.weight.numel() * side * side
    return total


def _readout_macs(network: TinyNetwork) -> int:
    return 4 * network.config.output_nodes + network.classifier.weight.numel()


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
