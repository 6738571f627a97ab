"""The static tiny classifier: a feed-forward pass over blocks of nodes (facts 1.5).

Blocks of columns 0-31, 32-223, ..., 608-799. Each block in turn normalises what its nodes have received, applies
the node operation and sends to *all later* nodes, at the latest to the output nodes. The output nodes are at once
part of the last block: in the last pass they apply their operation and feed each other once.

The read-out sees a 2x2 patch of the output maps, so the last pass computes just that patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import TinyStaticConfig
from dnw_core.models.graph import Liveness, any_along
from dnw_core.models.layers.edges import EdgeProduct
from dnw_core.models.layers.kernels import at_least_float32, in_pieces
from dnw_core.models.tiny.base import TinyNetwork, node_norm, node_operation
from dnw_core.wiring.slots import Slots


@dataclass(frozen=True)
class Block:
    """Sending nodes [start, stop) and the first node they send to."""

    start: int
    stop: int
    receivers_from: int


class TinyStatic(TinyNetwork):
    """Feed-forward over blocks of nodes.

    Raises:
        ValueError: if the blocks do not add up to the nodes.
    """

    config: TinyStaticConfig

    def __init__(self, config: TinyStaticConfig) -> None:
        if (config.nodes - config.input_nodes) % config.block_nodes:
            raise ValueError(
                f"nodes - input_nodes is {config.nodes - config.input_nodes}, "
                f"which block_nodes ({config.block_nodes}) does not divide"
            )
        if config.output_nodes > config.block_nodes:
            raise ValueError(f"output_nodes ({config.output_nodes}) must fit in the last block ({config.block_nodes})")
        super().__init__(config)

    def blocks(self) -> list[Block]:
        """The blocks in the order in which they send."""
        bounds = [0, *range(self.config.input_nodes, self.config.nodes + 1, self.config.block_nodes)]
        return [Block(start, stop, min(stop, self.first_output)) for start, stop in pairwise(bounds)]

    @override
    def slots(self) -> Slots:
        """Usable: 264,960 of 640,000 entries; the released random graph draws from another region (Q2)."""
        nodes = self.config.nodes
        usable = torch.zeros(nodes, nodes, dtype=torch.bool)
        for block in self.blocks():
            usable[block.receivers_from :, block.start : block.stop] = True
        return Slots((nodes, nodes), usable=usable, released_random=self._released_random())

    def _released_random(self) -> Tensor:
        # Q2: the released mask steps in blocks of output_nodes columns from the input nodes on, and counts its rows
        # from 0 although the input nodes are rows here too: 305,600 slots, of which the forward pass reads 258,160.
        config = self.config
        eligible = torch.ones(config.nodes, config.nodes, dtype=torch.bool)
        for step, start in enumerate(range(config.input_nodes, config.nodes, config.output_nodes), start=1):
            eligible[: step * config.output_nodes, start : start + config.output_nodes] = False
        return eligible

    @override
    def read_graph(self, inputs_bchw: Tensor) -> Tensor:
        weight = self.edges.weight
        products = [EdgeProduct(weight[block.receivers_from :, block.start : block.stop]) for block in self.blocks()]
        pieces = in_pieces(inputs_bchw, self.config.nodes)
        return torch.cat([self._read_piece(piece, products) for piece in pieces])

    def _read_piece(self, inputs_bchw: Tensor, products: list[EdgeProduct]) -> Tensor:
        *earlier, last = zip(self.blocks(), products, strict=True)
        sending = inputs_bchw
        received: Tensor | None = None  # sums of the nodes from the current block's end on
        for block, product in earlier:
            sent = product(self._operate(block, self._normalise(block, sending)))
            received = sent if received is None else received + sent
            width = min(self.config.block_nodes, received.shape[1])
            sending, received = received[:, :width], received[:, width:]
        block, product = last
        # the last block's maps are summed up; its output nodes get one more contribution, needed at the patch only
        patch = self._operate_patch(block, self._normalise(block, sending))
        own = self.pool(sending[:, -self.config.output_nodes :])
        return own + at_least_float32(product(patch)).mean(dim=(2, 3))

    def _normalise(self, block: Block, maps_bchw: Tensor) -> Tensor:
        own = slice(block.start, block.stop)
        return node_norm(maps_bchw, self.norm_weight[own], self.norm_bias[own])

    def _operate(self, block: Block, maps_bchw: Tensor) -> Tensor:
        return node_operation(maps_bchw, self.node_op.weight[block.start : block.stop])

    def _operate_patch(self, block: Block, maps_bchw: Tensor) -> Tensor:
        start = self.pool_start() - 1  # the 3x3 operation at a 2x2 patch reads 4x4 pixels
        around = maps_bchw[:, :, start : start + 4, start : start + 4]
        return node_operation(around, self.node_op.weight[block.start : block.stop], padding=0)

    @override
    def graph_liveness(self, mask: Tensor) -> Liveness:
        """An edge is live if it is usable and its receiver is an output or feeds one through live edges."""
        usable = self.slots().usable
        assert usable is not None
        read = mask.cpu() & usable
        reaches = torch.zeros(self.config.nodes, dtype=torch.bool)  # as a receiver: what it gets matters
        reaches[self.first_output :] = True
        sends = torch.zeros_like(reaches)  # its operation has a live outgoing edge
        for block in reversed(self.blocks()):
            own = slice(block.start, block.stop)
            sends[own] = any_along(read[:, own] & reaches[:, None], 0)
            reaches[own] |= sends[own]
        return Liveness(edges=read & reaches[:, None], nodes=sends)
