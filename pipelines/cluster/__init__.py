"""The machines: Ray is started or joined here, nodes are asked what they have and can see, and leave."""

from pipelines.cluster.capacity import check_machines, room_of_all
from pipelines.cluster.connection import check_cluster, connect, resolve_address, try_address
from pipelines.cluster.environment import cluster_environment, ray_environment
from pipelines.cluster.nodes import HEAD, Node, across_at_once, future_nodes, living_nodes
from pipelines.cluster.preemption import (
    DRAINED,
    TERMINATED,
    Leaving,
    Preempted,
    at_work,
    trial_processes,
    watch_for_sigterm,
    why_leave,
)
from pipelines.cluster.visibility import MOST_UNFIT, VisibilityProbe

__all__ = [
    "DRAINED",
    "HEAD",
    "MOST_UNFIT",
    "TERMINATED",
    "Leaving",
    "Node",
    "Preempted",
    "VisibilityProbe",
    "across_at_once",
    "at_work",
    "check_cluster",
    "check_machines",
    "cluster_environment",
    "connect",
    "future_nodes",
    "living_nodes",
    "ray_environment",
    "resolve_address",
    "room_of_all",
    "trial_processes",
    "try_address",
    "watch_for_sigterm",
    "why_leave",
]
