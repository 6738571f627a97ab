"""The continuous-time tiny classifier: dZ/dt = norm(edges(op(relu(Z)))), integrated from 0 to 1 (facts 1.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from dnw_core.config import TinyContinuousConfig
from dnw_core.models.graph import Liveness, any_along
from dnw_core.models.layers.edges import EdgeProduct
from dnw_core.models.layers.kernels import at_least_float32
from dnw_core.models.layers.ode import integrate
from dnw_core.models.tiny.base import TinyNetwork, node_norm, node_operation
from dnw_core.wiring.slots import Slots


class TinyContinuous(TinyNetwork):
    """The graph as the right-hand side of an ordinary differential equation."""

    config: TinyContinuousConfig
    solver_counts: Tensor

    def __init__(self, config: TinyContinuousConfig) -> None:
        super().__init__(config)
        # evaluations and solutions since the last reset; a buffer, so that a resumed trial knows its cost
        self.register_buffer("solver_counts", torch.zeros(2, dtype=torch.int64))

    @property
    @override
    def applications(self) -> float:
        """Mean number of evaluations a batch, over the solutions since the last ``reset_applications``."""
        evaluations, solutions = self.solver_counts.tolist()
        return evaluations / solutions if solutions else 0.0

    def reset_applications(self) -> None:
        """Start counting anew (the trainer does before each evaluation)."""
        self.solver_counts.zero_()

    @override
    def slots(self) -> Slots:
        """All entries: any node may send to any node, itself included."""
        return Slots((self.config.nodes, self.config.nodes))

    @override
    def read_graph(self, inputs_bchw: Tensor) -> Tensor:
        """Integrate from the stem's maps (other nodes at zero); return the pooled output nodes."""
        # Q9: the released code's in-place ReLU clamps the states that the solver holds: Z(0) and each step's end
        start = F.relu(inputs_bchw) if self.config.ode_start == "reference" else inputs_bchw
        padding = (0, 0, 0, 0, 0, self.config.nodes - self.config.input_nodes)
        parameters = (self.node_op.weight, self.edges.weight, self.norm_weight, self.norm_bias)
        state, evaluations = integrate(
            prepare_field,
            F.pad(at_least_float32(start), padding),
            parameters,
            rtol=self.config.rtol,
            atol=self.config.atol,
            clamp_ends=self.config.ode_ends == "reference",
        )
        self.solver_counts[0] += evaluations
        self.solver_counts[1] += 1
        return self.pool(state[:, self.first_output :])

    @override
    def graph_liveness(self, mask: Tensor) -> Liveness:
        """An edge is live if a path of edges leads from its receiver to an output node."""
        mask = mask.cpu()
        reaches = torch.zeros(self.config.nodes, dtype=torch.bool)
        reaches[self.first_output :] = True
        while True:
            grown = reaches | any_along(mask & reaches[:, None], 0)
            if torch.equal(grown, reaches):
                break
            reaches = grown
        edges = mask & reaches[:, None]
        return Liveness(edges=edges, nodes=any_along(edges, 0))


class prepare_field:  # noqa: N801 - used like a function: parameters in, right-hand side out
    """The right-hand side for given parameters; the edge product is prepared once for all evaluations."""

    def __init__(self, kernel: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> None:
        self.kernel = kernel
        self.product = EdgeProduct(weight)
        self.norm = (norm_weight, norm_bias)

    def __call__(self, state_bchw: Tensor) -> Tensor:
        """dZ/dt at this state."""
        return node_norm(self.product(node_operation(state_bchw, self.kernel)), *self.norm)
