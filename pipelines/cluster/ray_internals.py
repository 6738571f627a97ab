"""Everything this project takes from Ray that Ray does not promise: names, texts and variables of version 2.60.

Each is here because there is no public way, and ``tests/cluster/test_ray_internals.py`` fails where a new version of
Ray changes one of them. Importing this module loads no Ray.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

CHECKED_WITH = "2.60.0"
"""The version of Ray for which all of this was measured."""

HEAD = "node:__internal_head__"
"""A resource that Ray gives the head and no other node: the public description of nodes does not name the head."""

CLUSTERS_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Whether Ray may form clusters; read when Ray is imported. "0" keeps its ports on the loopback, on Linux as well.

No public setting does: the node's address can be set, but Ray's processes listen on every interface all the same.
"""

NICENESS_VARIABLE = "RAY_worker_niceness"
"""The niceness of workers; 15 by default, which makes times incomparable."""

START_WAIT_VARIABLE = "RAY_raylet_start_wait_time_s"
"""How long a starting node may take; 30 s by default, too little for a busy machine."""

RECONNECT_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""How long a process tries to reach a head that is gone, before Ray ends the process."""

RECONNECT_SECONDS = 60.0
"""Ray's default for ``RECONNECT_VARIABLE``."""

_DRAIN_RPC_SECONDS = 10

Death = Literal["preempted", "node lost", "sigterm", "process died", "other"]

# the texts of ActorDiedError, which has one class for all deaths of an actor, in the order in which they decide
_DEATHS: tuple[tuple[str, Death], ...] = (
    ("node has died", "node lost"),
    ("receives a SIGTERM", "sigterm"),
    ("worker process has died", "process died"),
)
_OUT_OF_MEMORY = ("NODE_OUT_OF_MEMORY", "running low on memory")
# classes of ray.exceptions, by name so that no Ray is loaded to read an error
_LOSSES = {
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectLostError",
    "RaySystemError",
    "RpcError",
}


def draining_nodes() -> set[str]:
    """Return the ids of the nodes that are about to be taken away; Ray tells its autoscaler only."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def drain_node(address: str, node: str, seconds: float) -> tuple[bool, str]:
    """Let Ray place nothing on a node any more; its command line has no such command.

    Args:
        address: the head's ``host:port``.
        node: the node's id.
        seconds: time until the node is taken away; Ray tells it to its autoscaler, and ends nothing then.

    Returns:
        Whether Ray agrees, and why it does not.
    """
    import ray
    from ray.core.generated import autoscaler_pb2

    agreed, why = ray._raylet.GcsClient(address=address).drain_node(
        node,
        autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        "this machine is about to be taken away",
        int(1000 * (time.time() + seconds)),
        timeout=_DRAIN_RPC_SECONDS,
    )
    return bool(agreed), str(why)


def error_of_trial(trial: Any) -> BaseException | None:
    """Return what ended the process of a trial of Tune's; None if it was not kept.

    The public ``Trial.get_pickled_error`` reads the copy in the storage folder, which is made when a run ends.
    """
    from ray import cloudpickle

    try:
        with Path(trial.pickled_error_file).open("rb") as file:
            error: BaseException = cloudpickle.load(file)
    except Exception:  # the file was cut off on a full disk
        return None
    return error


def cause(error: BaseException) -> BaseException:
    """Return what a task or an actor has raised itself; Ray wraps it in an error of its own."""
    return getattr(error, "cause", None) or error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Ray's memory monitor killed the process because its machine ran out of memory."""
    text = str(error)
    return "OutOfMemoryError" in _class_names(error) or any(words in text for words in _OUT_OF_MEMORY)


def is_loss(error: BaseException) -> bool:
    """Whether Ray lost touch with the process, which says nothing of what the process did."""
    return bool(_class_names(error) & _LOSSES)


def death_of_actor(error: BaseException) -> Death | None:
    """Return how an actor died; None if this is another error, or one of the actor's constructor."""
    if "RayActorError" not in _class_names(error) or getattr(error, "actor_init_failed", False):
        return None
    if getattr(error, "preempted", False):
        return "preempted"
    return next((death for words, death in _DEATHS if words in str(error)), "other")


def _class_names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
