"""Cost of the MobileNetV1 family by the papers' rules (facts 2.3): one count for graph and ordinary networks.

One MAC = one multiply-add. Norms, ReLUs and biases are not counted. An edge costs the pixels of its stage's output; a
node's 3x3 operation 9 of these for each node with an outgoing edge (also the strided one); the stem 27 a pixel for
each of its nodes with an outgoing edge; pooling its pixels and the classifier its classes for each output node with an
incoming edge. Edges are all kept ones, also those that end in dead nodes (Q11), at the network's real sizes (Q10).
``live`` counts what is used and can influence the output, ``dense`` as if every usable slot were an edge. A stage whose
weight is not a graph is counted like one that keeps everything, its weights as parameters and not as edges.

``parameters`` has neither norms nor biases (the graph network x0.225 on CIFAR-10 with nothing dead: 214,688, in
facts 2.4 214,685, not rounded up; MobileNetV1 x0.25: 210,160); ``parameters_with_norm`` has both, and what is dead
(MobileNetV1 x0.25: 215,642), which is what papers on ordinary networks print. Others leave the pooling out of the
multiply-adds: 41.03M for MobileNetV1 x0.25 at 224 pixels in facts 4.2 is 41.04M here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dnw_core.models.graph import GraphNetwork, any_along, own_parameters
from dnw_core.record import Cost

KERNEL = 9
STEM_WEIGHTS = 27


class Stage(NamedTuple):
    """Nodes that operate and send through one weight: a graph, or the dense weight of a layer before all graphs."""

    graph: str  # its name; of a dense weight any other name
    stride: int
    inputs: int  # first senders: what the stage before wrote
    outputs: int  # last receivers: what the next stage reads


@dataclass(frozen=True)
class Chain:
    """Stem, stages, pooling, classifier.

    Attributes:
        network: tells graphs and liveness.
        image_size: pixels a side.
        stem_stride: of the stem's convolution.
        stages: in the order of the forward pass.
        classes: of the classifier.
        classifier_graph: name of the graph that the classifier's edges are, None for a dense one.
    """

    network: GraphNetwork
    image_size: int
    stem_stride: int
    stages: Sequence[Stage]
    classes: int
    classifier_graph: str | None = None


def chain_cost(chain: Chain, masks: dict[str, Tensor]) -> Cost:
    """Return the cost with the kept edges ``masks``, by graph name."""
    masks = {name: mask.cpu().flatten(1) for name, mask in masks.items()}
    shapes = {graph.name: graph.slots.shape for graph in chain.network.graphs()}
    live = chain.network.liveness({name: mask.view(shapes[name]) for name, mask in masks.items()})
    kept = _count(chain, _with_dense_stages(chain, masks, whole=True))
    live_edges = {name: found.edges.flatten(1) for name, found in live.items()}
    alive = _count(chain, _with_dense_stages(chain, live_edges, whole=False))
    dense = _count(chain, _with_dense_stages(chain, _every_edge(chain.network), whole=True))
    edges = sum(int(mask.count_nonzero()) for mask in masks.values())
    assert isinstance(chain.network, nn.Module)
    own = sum(parameter.numel() for parameter in own_parameters(chain.network))
    return Cost(
        parameters=kept.parameters,
        parameters_with_norm=own - sum(mask.numel() for mask in masks.values()) + edges,
        parameters_allocated=sum(parameter.numel() for parameter in chain.network.parameters()),
        live_parameters=alive.parameters,
        edges=edges,
        live_edges=sum(int(found.edges.count_nonzero()) for found in live.values()),
        nodes=sum(masks[stage.graph].shape[1] for stage in chain.stages if stage.graph in masks),
        live_nodes=sum(int(found.nodes.sum()) for found in live.values()),
        macs=kept.macs,
        live_macs=alive.macs,
        dense_macs=dense.macs,
    )


class _Count(NamedTuple):
    parameters: int
    macs: int


def _every_edge(network: GraphNetwork) -> dict[str, Tensor]:
    found = {}
    for graph in network.graphs():
        usable = graph.slots.usable
        full = torch.ones(graph.slots.shape, dtype=torch.bool) if usable is None else usable
        found[graph.name] = full.flatten(1)
    return found


def _with_dense_stages(chain: Chain, masks: dict[str, Tensor], *, whole: bool) -> dict[str, Tensor]:
    """Add the weights of dense stages: ``whole``, or what reaches a channel that the next stage's edges leave from."""
    found = dict(masks)
    for stage, following in reversed(list(pairwise(chain.stages))):
        if stage.graph not in masks:
            reached = torch.ones(stage.outputs, stage.inputs, dtype=torch.bool)
            sends_on = any_along(found[following.graph], 0)[: following.inputs]
            found[stage.graph] = reached if whole else reached & sends_on[:, None]
    return found


def _count(chain: Chain, masks: dict[str, Tensor]) -> _Count:
    side = -(-chain.image_size // chain.stem_stride)
    first, last = chain.stages[0], chain.stages[-1]
    parameters = STEM_WEIGHTS * int(any_along(masks[first.graph][:, : first.inputs], 0).sum())
    macs = parameters * side**2
    for stage in chain.stages:
        side = -(-side // stage.stride)
        mask = masks[stage.graph]
        weights = int(mask.count_nonzero()) + KERNEL * int(any_along(mask, 0).sum())
        parameters += weights
        macs += weights * side**2
    fed = int(any_along(masks[last.graph][-last.outputs :], 1).sum())
    edges = masks.get(chain.classifier_graph or "")
    classifier = fed * chain.classes if edges is None else int(edges.count_nonzero())
    return _Count(parameters + classifier, macs + fed * side**2 + classifier)
