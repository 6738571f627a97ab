"""What fits on which machine, before anything is trained: a trial that fits nowhere would wait for ever.

A trial with several workers goes on one machine wherever one takes them all, else over several.
"""

from __future__ import annotations

from collections.abc import Sequence

from dnw_core.errors import UserError
from pipelines.cluster.nodes import Node
from pipelines.spec import Resources, TrialSpec

_MOST_NODES = 5


def place_on_nodes(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> list[TrialSpec]:
    """Return the trials; those that no single node takes spread their workers over several.

    Raises:
        UserError: if a trial fits neither way; names the first such row, what it asks for, what there is, and what
            would do.
    """
    return [spec.model_copy(update={"resources": _placed(spec, nodes)}) for spec in specs]


def across_at_once(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> int:
    """Return how many of the trials that need several nodes have room together (at least 1).

    The smallest number of any kind of them is taken: workers of different sizes might not fit side by side.
    """
    kinds = {spec.resources for spec in specs if spec.resources.across_nodes}
    return max(1, min((_places(kind, nodes) // kind.workers for kind in kinds), default=1))


def _placed(spec: TrialSpec, nodes: Sequence[Node]) -> Resources:
    asked = spec.resources
    if any(node.places(asked) for node in nodes):
        return asked
    if _places(asked, nodes) >= asked.workers:
        return asked.model_copy(update={"across_nodes": True})
    raise UserError(_refusal(spec, nodes))


def _places(asked: Resources, nodes: Sequence[Node]) -> int:
    """Return how many workers of a trial fit on the nodes together."""
    return sum(node.places(asked.share) for node in nodes)


def _refusal(spec: TrialSpec, nodes: Sequence[Node]) -> str:
    asked = spec.resources
    largest = sorted(nodes, key=lambda node: (-node.gpus, -node.cpus))
    there = ", ".join(map(str, largest[:_MOST_NODES])) or "no node at all"
    more = f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    wish = f"{spec.table}/{spec.row} asks for {asked.cpus:g} CPU and {asked.gpus:g} GPU"
    instead = _alternatives(asked, spec.recipe.worker_counts, nodes)
    if asked.workers == 1:
        return f"{wish} on one machine, and none has that: there is {there}{more}{instead}"
    share = asked.share
    each = f"{share.cpus:g} CPU and {share.gpus:g} GPU for each of {asked.workers} workers"
    return f"{wish}, {each}, and there is room for {_places(asked, nodes)}: there is {there}{more}{instead}"


def _alternatives(asked: Resources, worker_counts: Sequence[int], nodes: Sequence[Node]) -> str:
    """Return which options would do, in words; an empty text if none would."""
    found = []
    if fewer := [number for number in worker_counts if number < asked.workers and number <= _places(asked, nodes)]:
        found.append(f"--workers {fewer[-1]}")
    for cores in range(int(asked.share.cpus), 0, -1):
        if _places(asked.model_copy(update={"cpus": float(cores * asked.workers)}), nodes) >= asked.workers:
            found.append(f"--threads {cores}")
            break
    if asked.gpus and not any(node.gpus for node in nodes) and any(node.cpus >= asked.cpus for node in nodes):
        found.append("--device cpu")
    return f"; {' or '.join(found)} would do" if found else ""
