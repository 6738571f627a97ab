"""What the residual networks have in common: their graphs, what is live of them, their cost, and their parts.

A graph is the weight of a convolution or of the classifier; an edge is one entry of it, so a pair of channels can have
several (nine in a 3x3 kernel). A node is a sending channel of a graph: a channel that two weights read is a node of
each, and the image's three colours are the nodes of ``conv1``. It is live if one of its edges is.

Every entry of a weight is a slot, also where images are so small that it meets nothing but padding: counts of kept
edges are the same at every image size, and ``liveness`` tells what is read.

Parameters on a shortcut, and no others, have ``shortcut`` as a component of their dotted name: recipes that treat the
norms there in their own way (Q17) find them by it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnw_core.config import KernelLayer, ResidualConfig
from dnw_core.models.graph import Graph, Liveness, any_along, own_parameters
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.models.residual.liveness import live_edges
from dnw_core.record import Cost
from dnw_core.wiring.slots import Slots


class ResidualNetwork(nn.Module):
    """The base: submodules bear the names of ``config.layers()``, a shortcut's convolution ``shortcut`` or below it.

    Args:
        config: settings of the network.
    """

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.config = config

    def graphs(self) -> list[Graph]:
        """All weights but the dense layers, in the order of the forward pass."""
        found = []
        for layer in self.config.layers()[self.config.dense_layers :]:
            module = self._owner(layer.name)
            kernel = () if isinstance(module, nn.Linear) else (layer.kernel, layer.kernel)
            found.append(Graph(layer.name, module, "weight", Slots((layer.outputs, layer.inputs, *kernel))))
        return found

    def liveness(self, masks: dict[str, Tensor]) -> dict[str, Liveness]:
        """An edge is live if it carries something from its sender and its receiver can influence the output.

        Exact down to pixels (``live_edges``). Nodes as this file says.
        """
        found = live_edges(self.config, masks)
        live = {}
        for name, mask in masks.items():
            edges = found[name].view(mask.shape)
            live[name] = Liveness(edges=edges, nodes=_sending(edges))
        return live

    def cost(self, masks: dict[str, Tensor]) -> Cost:
        """Parameters and MACs with these kept edges (facts 2.3, 3)."""
        return residual_cost(self, masks)

    def _owner(self, name: str) -> nn.Module:
        module = self.get_submodule(name)
        return module.conv if isinstance(module, Shortcut) else module


class Shortcut(nn.Module):
    """1x1 convolution and norm, for an input that has not its block's shape."""

    def __init__(self, layer: KernelLayer, *, affine: bool) -> None:
        super().__init__()
        self.conv = convolution(layer)
        self.norm = BatchNorm2d(layer.outputs, affine=affine)

    def forward(self, maps_bchw: Tensor) -> Tensor:
        """Return maps of the block's shape."""
        return normalised(self.norm, self.conv(maps_bchw))


def in_fast_order(images_bchw: Tensor) -> Tensor:
    """Lay the channels last on a CPU, and with them all maps: a training step is a fifth faster at 32 pixels so."""
    if images_bchw.device.type == "cpu":
        images_bchw = images_bchw.contiguous(memory_format=torch.channels_last)
    return images_bchw


def convolution(layer: KernelLayer) -> nn.Conv2d:
    """The layer's convolution without a bias; Kaiming-normal by its fan-in, like every weight here (facts 3)."""
    made = nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.kernel // 2, bias=False)
    initialise(made.weight)
    return made


def initialise(weight: Tensor) -> None:
    """Kaiming-normal by the dense fan-in, however few edges are kept: variance 2 / fan-in."""
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")


def normalised(norm: nn.BatchNorm2d, maps_bchw: Tensor) -> Tensor:
    """Batch norm in float32 at every precision."""
    with torch.autocast(maps_bchw.device.type, enabled=False):
        made: Tensor = norm(at_least_float32(maps_bchw))
    return made


def _sending(edges: Tensor) -> Tensor:
    """Which senders have an edge, [i], of [o, i, ...]."""
    return any_along(edges, 0).reshape(edges.shape[1], -1).any(dim=1)


def residual_cost(network: ResidualNetwork, masks: dict[str, Tensor]) -> Cost:
    """Return the cost with the kept edges ``masks``, by graph name."""
    layers = network.config.layers()
    live_masks = live_edges(network.config, masks)
    kept = {layer.name: layer.weights for layer in layers}
    kept.update({name: int(mask.count_nonzero()) for name, mask in masks.items()})
    live = {name: int(mask.count_nonzero()) for name, mask in live_masks.items()}
    pixels = {layer.name: layer.side**2 for layer in layers}
    own = sum(parameter.numel() for parameter in own_parameters(network))
    norms = sum(
        parameter.numel()
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    )
    weights = sum(layer.weights for layer in layers)
    biases = own - norms - weights
    return Cost(
        parameters=sum(kept.values()) + biases,
        parameters_with_norm=sum(kept.values()) + biases + norms,
        parameters_allocated=sum(parameter.numel() for parameter in network.parameters()),
        live_parameters=sum(live.values()) + biases,
        edges=sum(kept[name] for name in masks),
        live_edges=sum(live[name] for name in masks),
        nodes=sum(layer.inputs for layer in layers if layer.name in masks),
        live_nodes=sum(int(_sending(live_masks[name]).sum()) for name in masks),
        macs=sum(kept[name] * pixels[name] for name in kept),
        live_macs=sum(live[name] * pixels[name] for name in live),
        dense_macs=sum(layer.weights * pixels[layer.name] for layer in layers),
    )
