"""Cost of a tiny classifier by the papers' rules (facts 1.2, 2.3).

One MAC = one multiply-add. Norms, ReLUs and biases are not counted. An edge costs the pixels of its map; a node
operation 9 a pixel, for each node with an outgoing edge; pooling a read pixel each; times the number of times the graph
is applied. ``live`` counts what is used and can influence the output, ``dense`` as if every usable slot were an edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from dnw_core.record import Cost

if TYPE_CHECKING:
    from dnw_core.models.tiny import TinyNetwork

NODE_OP_WEIGHTS = 9


def tiny_cost(network: TinyNetwork, mask: Tensor) -> Cost:
    """Return the cost with the kept edges ``mask``, [receivers, senders]."""
    mask = mask.cpu()
    live = network.graph_liveness(mask)
    slots = network.slots()
    nodes = network.config.nodes
    edges, live_edges = int(mask.sum()), int(live.edges.sum())
    senders, live_senders = int(mask.any(dim=0).sum()), int(live.nodes.sum())
    usable = slots.numel if slots.usable is None else int(slots.usable.sum())
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
