"""The discrete-time tiny classifier: one graph applied ``steps`` times to the whole state (facts 1.3).

Each step replaces the state: ReLU, node operation, edges, instance norm, with the same weights every time. The state
starts as the stem's maps followed by zero maps, so the first step needs the input nodes' columns only; the read-out
sees the output nodes, so the last step needs their rows only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import TinyDiscreteConfig
from dnw_core.models.graph import Liveness, any_along
from dnw_core.models.layers.edges import EdgeProduct
from dnw_core.models.layers.kernels import in_pieces
from dnw_core.models.tiny.base import TinyNetwork, node_norm, node_operation
from dnw_core.wiring.slots import Slots


class TinyDiscrete(TinyNetwork):
    """The graph applied ``config.steps`` times."""

    config: TinyDiscreteConfig

    @property
    @override
    def applications(self) -> float:
        return float(self.config.steps)

    @override
    def slots(self) -> Slots:
        """All entries: any node may send to any node, itself included."""
        return Slots((self.config.nodes, self.config.nodes))

    @override
    def read_graph(self, inputs_bchw: Tensor) -> Tensor:
        weight = self.edges.weight
        products: dict[tuple[int, int], EdgeProduct] = {}
        steps = []
        for step in range(self.config.steps):
            rows_from = self.first_output if step == self.config.steps - 1 else 0
            columns_to = self.config.input_nodes if step == 0 else self.config.nodes
            key = (rows_from, columns_to)
            if key not in products:
                products[key] = EdgeProduct(weight[rows_from:, :columns_to])
            steps.append((products[key], rows_from, columns_to))
        pieces = in_pieces(inputs_bchw, self.config.nodes)
        return torch.cat([self._read_piece(piece, steps) for piece in pieces])

    def _read_piece(self, state_bchw: Tensor, steps: list[tuple[EdgeProduct, int, int]]) -> Tensor:
        for product, rows_from, columns_to in steps:
            sent = product(node_operation(state_bchw, self.node_op.weight[:columns_to]))
            state_bchw = node_norm(sent, self.norm_weight[rows_from:], self.norm_bias[rows_from:])
        return self.pool(state_bchw)

    @override
    def graph_liveness(self, mask: Tensor) -> Liveness:
        """Unrolled over the steps: an edge is live if its signal at some step reaches an output node at the last."""
        mask = mask.cpu()
        reaches = torch.zeros(self.config.nodes, dtype=torch.bool)
        reaches[self.first_output :] = True
        live = torch.zeros_like(mask)
        for step in reversed(range(self.config.steps)):
            used = mask & reaches[:, None]
            if step == 0:
                used[:, self.config.input_nodes :] = False  # these nodes' state is still zero
            live |= used
            reaches = any_along(used, 0)
        return Liveness(edges=live, nodes=any_along(live, 0))
