"""The machines of the connected Ray, and those that an autoscaler can start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.cluster.ray_internals import HEAD
from pipelines.spec import NodeType, Resources

_ROUNDING = 1e-6
_FUTURE = "a machine to be started"


@dataclass(frozen=True)
class Node:
    """One living machine of the cluster."""

    id: str
    name: str
    cpus: float
    gpus: float
    head: bool = False
    future: bool = False  # not running yet, but an autoscaler can start it

    def fits(self, resources: Resources) -> bool:
        """Whether a trial that asks for ``resources`` can run here, or one of its workers if it goes over several."""
        return self.places(resources.share if resources.across_nodes else resources) > 0

    def places(self, resources: Resources) -> int:
        """Return how often ``resources`` fit here."""
        fitting = self.cpus / resources.cpus
        if resources.gpus:
            fitting = min(fitting, self.gpus / resources.gpus)
        return int(fitting + _ROUNDING)

    def __str__(self) -> str:
        return f"{self.name} ({self.cpus:g} CPU, {self.gpus:g} GPU)"


def living_nodes(description: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the living nodes of what ``ray.nodes()`` says."""
    return [
        Node(
            id=str(node["NodeID"]),
            name=str(node.get("NodeManagerHostname") or node.get("NodeManagerAddress")),
            cpus=float(node.get("Resources", {}).get("CPU", 0)),
            gpus=float(node.get("Resources", {}).get("GPU", 0)),
            head=HEAD in node.get("Resources", {}),
        )
        for node in description
        if node.get("Alive")
    ]


def future_nodes(node_types: Sequence[NodeType]) -> list[Node]:
    """Return the machines that an autoscaler can start."""
    return [Node(id="", name=_FUTURE, cpus=kind.cpus, gpus=kind.gpus, future=True) for kind in node_types]
