"""What a network tells of its graphs: where the edges are, which slots exist, and what of them is live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from dnw_core.record import Cost
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.slots import Slots


@dataclass(frozen=True)
class Liveness:
    """What of a graph is live: used by the forward pass and able to influence the output.

    Attributes:
        edges: boolean, like the mask; a subset of it.
        nodes: boolean, one per sending node; true for nodes whose own operation is live.
    """

    edges: Tensor
    nodes: Tensor


@dataclass(frozen=True)
class Graph:
    """One weight of a network that holds edges.

    Attributes:
        name: the graph's name in files and pictures.
        module: the module that owns the weight.
        weight_name: the weight's name there.
        slots: which entries may be edges.
    """

    name: str
    module: nn.Module
    weight_name: str
    slots: Slots


class GraphNetwork(Protocol):
    """A network whose weights take wiring rules."""

    def graphs(self) -> list[Graph]:
        """The network's graphs, in the order of the forward pass."""

    def liveness(self, masks: dict[str, Tensor]) -> dict[str, Liveness]:
        """What is live of these kept edges (by graph name, as the answer)."""

    def cost(self, masks: dict[str, Tensor]) -> Cost:
        """Cost of the network with these kept edges (by graph name)."""

    def __call__(self, images_bchw: Tensor) -> Tensor:
        """Logits, [batch, classes]."""


def any_along(mask: Tensor, dim: int) -> Tensor:
    """Return ``mask.any(dim)``; on a CPU the maximum of its bytes is twenty times as fast."""
    if not mask.shape[dim]:  # there is no maximum of nothing
        return mask.any(dim)
    return mask.view(torch.uint8).amax(dim).view(torch.bool)


def own_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return what is trained of the network itself: all but what its rules train to choose edges (scores, thresholds).

    The found network needs no more than these: the rules can be taken off.
    """
    of_rules = {id(parameter) for attached in attached_rules(network) for parameter in attached.rule.parameters()}
    return [parameter for parameter in network.parameters() if id(parameter) not in of_rules]


class EdgeWeight(nn.Module):
    """The dense matrix of edge weights, [receivers, senders], initialised like a 1x1 convolution.

    Uniform in ±1/sqrt(senders): the *dense* fan-in, however few edges are kept (facts 1.6).
    """

    def __init__(self, receivers: int, senders: int) -> None:
        super().__init__()
        bound = senders**-0.5
        self.weight = nn.Parameter(torch.empty(receivers, senders).uniform_(-bound, bound))
