"""The MobileNetV1-like graph network: five blocks of nodes, edges between any two groups of a block (facts 2.1).

Shapes: b images, c nodes, h x w pixels. A stem convolution writes the first block's input nodes, without norm or
ReLU. In a block the groups send in order, the input nodes first, then each hidden group once it has received from all
before it; a group's operation is batch norm, ReLU and each node's own 3x3 convolution, and it sends to *all later*
groups through the block's one matrix of edges. The last group is handed on as it was received: its operation is the
next block's, or the read-out's.

A node is a channel that sends: 4,960 of them. The matrix of a block has a row for every receiving channel (hidden
groups, then outputs) and a column for every sending one (inputs, then hidden groups).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import CLASSIFIER_LAW, GRAPH_BLOCKS, GraphBlock, GraphMobileNetConfig
from dnw_core.models.graph import EdgeWeight, Graph, Liveness, any_along
from dnw_core.models.layers import channel_major
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.models.mobilenet.cost import Chain, Stage, chain_cost
from dnw_core.record import Cost
from dnw_core.wiring.slots import Slots
from dnw_core.wiring.transforms import never_compiled

LARGEST_UNSTRIDED_IMAGE = 64  # pixels a side; the stem halves larger images


class NodeGroup(nn.Module):
    """Batch norm, ReLU, and each node's own 3x3 convolution: what a group of nodes does before it sends.

    In float32 at every precision: norms take no less, and nine multiply-adds a value gain nothing from rounding.
    """

    def __init__(self, nodes: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = BatchNorm2d(nodes)
        self.node_op = nn.Conv2d(nodes, nodes, 3, stride=stride, padding=1, groups=nodes, bias=False)

    def forward(self, received_bchw: Tensor) -> Tensor:
        """Return what the nodes send, [b, c, h / stride, w / stride]."""
        with torch.autocast(received_bchw.device.type, enabled=False):
            sent: Tensor = self.node_op(F.relu(self.norm(for_node_operations(received_bchw)), inplace=True))
        return sent


def for_node_operations(maps_bchw: Tensor) -> Tensor:
    """Widen to float32 and, on a CPU, lay the channels last: norm, ReLU and oneDNN's depthwise gradients want that."""
    maps_bchw = at_least_float32(maps_bchw)
    if maps_bchw.device.type == "cpu":
        maps_bchw = maps_bchw.contiguous(memory_format=torch.channels_last)
    return maps_bchw


def _product(maps_bchw: Tensor, weight_rs: Tensor) -> Tensor:
    """Sum each receiver's senders, pixel by pixel: a 1x1 convolution; on a CPU as a product over channels-last maps."""
    if maps_bchw.device.type == "cpu":
        return F.linear(maps_bchw.permute(0, 2, 3, 1), weight_rs).permute(0, 3, 1, 2)
    return F.conv2d(maps_bchw, weight_rs[:, :, None, None])


class GraphMobileNetBlock(nn.Module):
    """One block: its groups of sending nodes and the matrix of edges, [receivers, senders]."""

    def __init__(self, shape: GraphBlock) -> None:
        super().__init__()
        self.shape = shape
        hidden = shape.groups - 1
        self.senders = nn.ModuleList(
            [NodeGroup(shape.inputs, shape.stride), *(NodeGroup(shape.outputs) for _ in range(hidden))]
        )
        self.edges = EdgeWeight(shape.receivers, shape.senders)

    def groups(self) -> list[NodeGroup]:
        """The groups in the order in which they send."""
        return [group for group in self.senders if isinstance(group, NodeGroup)]

    def columns(self) -> list[slice]:
        """The sending nodes of each group."""
        stops = [self.shape.inputs + group * self.shape.outputs for group in range(self.shape.groups)]
        return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]

    def first_receiver(self, group: int) -> int:
        """The first receiving node that the group may send to: those of later groups."""
        return group * self.shape.outputs

    def slots(self) -> Slots:
        """Usable: from each group to later ones; the released random graph draws among just these."""
        usable = torch.zeros(self.shape.receivers, self.shape.senders, dtype=torch.bool)
        for group, columns in enumerate(self.columns()):
            usable[self.first_receiver(group) :, columns] = True
        return Slots(tuple(usable.shape), usable=usable, released_random=usable, law=self.shape.law)

    def forward(self, inputs_bchw: Tensor) -> Tensor:
        """Return what the output nodes receive, [b, outputs, h / stride, w / stride]."""
        if inputs_bchw.device.type == "cpu" and inputs_bchw.shape[2] <= channel_major.LARGEST_SIDE:
            received: Tensor = self._forward_channel_major(inputs_bchw)
            return received
        weight = self.edges.weight
        sending = inputs_bchw
        waiting: list[Tensor] = []  # sums so far of the groups that have not sent yet, outputs last
        for group, (columns, node_group) in enumerate(zip(self.columns(), self.groups(), strict=True)):
            sums = _product(node_group(sending), weight[self.first_receiver(group) :, columns])
            arriving = torch.split(sums, self.shape.outputs, dim=1)
            waiting = [old + new for old, new in zip(waiting, arriving, strict=True)] if waiting else list(arriving)
            sending = waiting.pop(0)
        return sending

    @never_compiled  # sparse products are not traced
    def _forward_channel_major(self, inputs_bchw: Tensor) -> Tensor:
        images, _, side, _ = inputs_bchw.shape
        side = -(-side // self.shape.stride)
        weight = self.edges.weight
        edges = channel_major.StackedEdges(weight, self.shape.outputs, images * side**2)
        token = edges.token(weight)
        sending = at_least_float32(inputs_bchw.transpose(0, 1))
        sent: list[Tensor] = []
        for group, nodes in enumerate(self.groups()):
            sent.append(channel_major.node_operations(sending, nodes.norm, nodes.node_op).flatten(1))
            sending = edges.receive(token, group, sent).view(self.shape.outputs, images, side, side)
        return sending.transpose(0, 1)

    def liveness(self, mask: Tensor, outputs_matter: Tensor) -> Liveness:
        """What of the kept edges is live, given which output nodes can influence the network's output."""
        matters = torch.zeros(self.shape.receivers, dtype=torch.bool)  # as a receiver: what it gets matters
        matters[-self.shape.outputs :] = outputs_matter
        sends = torch.zeros(self.shape.senders, dtype=torch.bool)
        live = torch.zeros(self.shape.receivers, self.shape.senders, dtype=torch.bool)
        for group, columns in reversed(list(enumerate(self.columns()))):
            rows = slice(self.first_receiver(group), None)
            live[rows, columns] = mask[rows, columns] & matters[rows, None]
            sends[columns] = any_along(live[rows, columns], 0)
            if group:  # a hidden group's nodes are receivers too
                matters[self.first_receiver(group - 1) : self.first_receiver(group)] = sends[columns]
        return Liveness(edges=live, nodes=sends)


class GraphMobileNet(nn.Module):
    """Stem, blocks, read-out.

    Args:
        config: settings of the network.
        blocks: shapes of the blocks; the paper's five by default.
    """

    def __init__(self, config: GraphMobileNetConfig, blocks: Sequence[GraphBlock] = GRAPH_BLOCKS) -> None:
        super().__init__()
        self.config = config
        self.stem_stride = 1 if config.image_size <= LARGEST_UNSTRIDED_IMAGE else 2
        self.outputs = blocks[-1].outputs
        self.stem = nn.Conv2d(3, blocks[0].inputs, 3, stride=self.stem_stride, padding=1, bias=False)
        self.blocks = nn.ModuleList(GraphMobileNetBlock(shape) for shape in blocks)
        self.norm = BatchNorm2d(self.outputs)
        self.classifier: nn.Linear | EdgeWeight = (
            nn.Linear(self.outputs, config.classes)
            if config.classifier == "linear"
            else EdgeWeight(config.classes, self.outputs)
        )

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Return logits, [b, classes]."""
        maps = self.stem(for_node_operations(images_bchw))
        for block in self.blocks:
            maps = block(maps)
        with torch.autocast(maps.device.type, enabled=False):
            features = F.relu(self.norm(for_node_operations(maps))).mean(dim=(2, 3))
        return F.linear(features, self.classifier.weight, getattr(self.classifier, "bias", None))

    def graph_blocks(self) -> list[GraphMobileNetBlock]:
        """The blocks in order."""
        return [block for block in self.blocks if isinstance(block, GraphMobileNetBlock)]

    def graphs(self) -> list[Graph]:
        """The blocks, and the classifier where it holds edges."""
        graphs = [
            Graph(f"block-{index}", block.edges, "weight", block.slots())
            for index, block in enumerate(self.graph_blocks())
        ]
        if isinstance(self.classifier, EdgeWeight):
            slots = Slots((self.config.classes, self.outputs), law=CLASSIFIER_LAW)
            graphs.append(Graph("classifier", self.classifier, "weight", slots))
        return graphs

    def liveness(self, masks: dict[str, Tensor]) -> dict[str, Liveness]:
        """From the read-out backwards: an edge is live if it is read and its receiver can influence the output."""
        found: dict[str, Liveness] = {}
        matters = torch.ones(self.outputs, dtype=torch.bool)
        if isinstance(self.classifier, EdgeWeight):
            edges = masks["classifier"].cpu()
            matters = any_along(edges, 0)
            found["classifier"] = Liveness(edges=edges, nodes=torch.zeros(0, dtype=torch.bool))  # no operation there
        for index, block in reversed(list(enumerate(self.graph_blocks()))):
            live = block.liveness(masks[f"block-{index}"].cpu(), matters)
            found[f"block-{index}"] = live
            matters = live.nodes[: block.shape.inputs]
        return {name: found[name] for name in masks}

    def cost(self, masks: dict[str, Tensor]) -> Cost:
        """Parameters and MACs with these kept edges (facts 2.3)."""
        stages = [
            Stage(f"block-{index}", block.shape.stride, block.shape.inputs, block.shape.outputs)
            for index, block in enumerate(self.graph_blocks())
        ]
        edges = "classifier" if isinstance(self.classifier, EdgeWeight) else None
        chain = Chain(self, self.config.image_size, self.stem_stride, stages, self.config.classes, edges)
        return chain_cost(chain, masks)
