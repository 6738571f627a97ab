"""What the scheduler asks of the machines of the connected Ray: what fits, what they lack, how much room there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from dnw_core.errors import DataMissingError, UserError
from pipelines.cluster.connection import is_loopback
from pipelines.cluster.fit import place_on_nodes
from pipelines.cluster.node_checks import check_nodes
from pipelines.cluster.nodes import future_nodes, living_nodes
from pipelines.cluster.visibility import VisibilityProbe
from pipelines.driver import Display
from pipelines.plan import missing_line, worker_lines
from pipelines.spec import NodeType, Room, TrialSpec

_ROOM_SECONDS = 5.0


def check_machines(
    specs: Sequence[TrialSpec],
    cluster: str | None,
    probe: VisibilityProbe,
    display: Display,
    node_types: Sequence[NodeType] | None = None,
) -> tuple[list[TrialSpec], dict[str, str]]:
    """Return the trials, placed on the machines of the connected Ray, and the data sets that no node has, and why.

    Trials without data are left out, and the user is told; also how trials with several workers are placed, and that a
    cluster has no authentication.

    Args:
        specs: the trials to come.
        cluster: None for this machine.
        probe: what every machine must see.
        display: shows the user these lines.
        node_types: machines that an autoscaler can start. They count for what fits; what they see is checked once they
            run. None where the command has no option to name them.

    Raises:
        UserError: if a trial fits nowhere, or a node lacks code, folders or data that others have.
        DataMissingError: if no trial has its data on any node.
    """
    import ray

    nodes = living_nodes(ray.nodes())
    try:
        placed = place_on_nodes(specs, [*nodes, *future_nodes(node_types or ())])
    except UserError as error:
        if cluster is None or node_types is None or node_types:
            raise
        raise UserError(
            f"{error}; if the cluster starts machines by itself, give their size with --node-type CPU=NUMBER,GPU=NUMBER"
        ) from None
    for line in worker_lines(placed):
        display.note(line)
    if cluster is None:
        return placed, {}
    probe.write_marker()
    unguarded, missing = check_nodes(placed, nodes, probe)
    address = str(ray.get_runtime_context().gcs_address)
    if unguarded and not is_loopback(address):
        display.note(
            f"warning: the Ray cluster at {address} runs without token authentication, so anyone who reaches its "
            "ports can run code on it; start every node with RAY_AUTH_MODE=token"
        )
    return without_missing_data(placed, missing, display.note), missing


def without_missing_data(
    specs: Sequence[TrialSpec], missing: Mapping[str, str], say: Callable[[str], None]
) -> list[TrialSpec]:
    """Return the trials whose data are there; says which rows are left out.

    Raises:
        DataMissingError: if none is left.
    """
    left = [spec for spec in specs if spec.recipe.data.dataset not in missing]
    for dataset, why in missing.items():
        rows = {(spec.table, spec.row) for spec in specs if spec.recipe.data.dataset == dataset}
        if not left:
            raise DataMissingError(why)
        say(missing_line(len(rows), why))
    return left


def room_of_all(node_types: Sequence[NodeType] = ()) -> Callable[[], Room]:
    """Return a function that returns the CPUs and GPUs of all machines; it asks Ray now and then, since nodes may join.

    An autoscaler starts machines for what waits to be placed. So with ``node_types`` the room is twice what is there
    and one machine of each type: the cluster may double, and trials that come late still overtake most others.
    """
    import ray

    last: tuple[float, Room] | None = None

    def room() -> Room:
        nonlocal last
        if last is None or time.monotonic() - last[0] > _ROOM_SECONDS:
            there = ray.cluster_resources()
            cpus, gpus = float(there.get("CPU", 0.0)), float(there.get("GPU", 0.0))
            last = time.monotonic(), room_to_come((cpus, gpus), node_types)
        return last[1]

    return room


def room_to_come(there: Room, node_types: Sequence[NodeType]) -> Room:
    """Return the room to hand trials out for: what is there, or more where an autoscaler can start machines."""
    if not node_types:
        return there
    cpus, gpus = there
    return 2 * cpus + sum(kind.cpus for kind in node_types), 2 * gpus + sum(kind.gpus for kind in node_types)
