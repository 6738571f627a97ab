"""The machines: Ray is started or joined here, nodes are checked, and trials leave machines that go."""

from pipelines.cluster.capacity import check_machines, room_of_all
from pipelines.cluster.connection import check_cluster, connect, resolve_address, try_address
from pipelines.cluster.environment import cluster_environment, ray_environment
from pipelines.cluster.fit import across_at_once
from pipelines.cluster.nodes import Node, future_nodes, living_nodes
from pipelines.cluster.preemption import (
    DRAINED,
    TERMINATED,
    Preempted,
    ShouldStop,
    preemption_reason,
    training_marker,
    watch_for_sigterm,
)
from pipelines.cluster.process_registry import trial_processes
from pipelines.cluster.ray_internals import (
    HEAD,
    cause,
    death_of_actor,
    drain_node,
    error_of_trial,
    is_loss,
    is_out_of_memory,
)
from pipelines.cluster.visibility import MAX_SENT_BACK, VisibilityProbe
