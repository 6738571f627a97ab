"""Looking at the machines before anything is trained on them.

A trial whose resources fit on no node would wait for ever without a word; a node that does not see the results
folder or the data would fail every trial it is given, quickly, and so be given the next one.

Here, too, it is decided which way a trial with several workers goes: on one machine wherever one takes them all, else
over several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dnw_core.config import Execution
from dnw_core.errors import DataMissingError, UserError
from pipelines.cluster.visibility import VisibilityProbe
from pipelines.spec import NodeType, Resources, TrialSpec
from pipelines.storage import RemoteStaging

PROBE_SECONDS = 120.0  # a node may first have to unpack the code
HEAD = "node:__internal_head__"  # a resource that Ray gives the head, and no other node
_ROUNDING = 1e-6
_MOST_NODES = 5
_TO_BE_STARTED = "a machine to be started"


@dataclass(frozen=True)
class Node:
    """One living machine of the cluster."""

    id: str
    name: str
    cpus: float
    gpus: float
    head: bool = False
    future: bool = False  # it does not run yet, but an autoscaler can start it

    def fits(self, resources: Resources) -> bool:
        """Whether a trial that asks for ``resources`` can run here at all, or one of its workers, if they part."""
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
    return [Node(id="", name=_TO_BE_STARTED, cpus=kind.cpus, gpus=kind.gpus, future=True) for kind in node_types]


def check_resources(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> list[TrialSpec]:
    """Return the trials, each with the way it goes: those that no single node takes part their workers among several.

    Raises:
        UserError: if a trial fits neither way; names the first such row, what it asks for, what there is, and what
            would do.
    """
    return [spec.model_copy(update={"resources": _way(spec, nodes)}) for spec in specs]


def across_at_once(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> int:
    """Return how many of the trials that need several nodes have room together (at least 1).

    The smallest number of any kind of them is taken: workers of different sizes might not fit side by side.
    """
    kinds = {spec.resources for spec in specs if spec.resources.across_nodes}
    return max(1, min((_places(kind, nodes) // kind.workers for kind in kinds), default=1))


def _way(spec: TrialSpec, nodes: Sequence[Node]) -> Resources:
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
    way_out = _way_out(asked, spec.recipe.worker_counts, nodes)
    if asked.workers == 1:
        return f"{wish} on one machine, and none has that: there is {there}{more}{way_out}"
    share = asked.share
    each = f"{share.cpus:g} CPU and {share.gpus:g} GPU for each of {asked.workers} workers"
    return f"{wish}, {each}, and there is room for {_places(asked, nodes)}: there is {there}{more}{way_out}"


def _way_out(asked: Resources, worker_counts: Sequence[int], nodes: Sequence[Node]) -> str:
    """Return what the user could say instead, if there is anything."""
    ways = []
    if fewer := [number for number in worker_counts if number < asked.workers and number <= _places(asked, nodes)]:
        ways.append(f"--workers {fewer[-1]}")
    for cores in range(int(asked.share.cpus), 0, -1):
        if _places(asked.model_copy(update={"cpus": float(cores * asked.workers)}), nodes) >= asked.workers:
            ways.append(f"--threads {cores}")
            break
    if asked.gpus and not any(node.gpus for node in nodes) and any(node.cpus >= asked.cpus for node in nodes):
        ways.append("--device cpu")
    return f"; {' or '.join(ways)} would do" if ways else ""


class NodeAnswers(NamedTuple):
    """What the nodes said: which run without token authentication, and which data sets none of them has, and why."""

    unguarded: list[str]
    missing: dict[str, str]


def check_nodes(specs: Sequence[TrialSpec], nodes: Sequence[Node], sight: VisibilityProbe) -> NodeAnswers:
    """Ask every node that can get a trial whether it sees the same results folder, the data and the code.

    Args:
        specs: the trials to come.
        nodes: the cluster's nodes.
        sight: the word that was left below the results folder for the nodes to read.

    Raises:
        UserError: names the node and what is wrong with it; a data set that some nodes have and one lacks is that, too.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    path, word = sight.probe
    task = ray.remote(num_cpus=0, max_retries=0)(probe_node)
    asked = list(_needs(specs, nodes))
    answers = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            path, word, needs, sight.far, node.id
        ): node
        for node, needs in asked
    }
    _, late = ray.wait(list(answers), num_returns=len(answers), timeout=PROBE_SECONDS)
    if late:
        raise UserError(f"node {answers[late[0]].name} did not answer within {PROBE_SECONDS:.0f} s; is it overloaded?")
    unguarded: list[str] = []
    lacking: dict[str, dict[str, str]] = {}  # data set -> node -> why
    for answer, node in answers.items():
        try:
            trouble, authenticated, missing = ray.get(answer)
        except Exception as error:  # what Ray raises here has no common base
            raise UserError(f"node {node.name} cannot run this project: {_last_line(error)}") from None
        if trouble:
            raise UserError(f"node {node.name}: {trouble}")
        if sight.far is not None and not sight.far.heard(word, node.id):
            raise UserError(f"node {node.name}: what it wrote to {sight.far} did not arrive there")
        if not authenticated:
            unguarded.append(node.name)
        for dataset, why in missing.items():
            lacking.setdefault(dataset, {})[node.name] = why
    return NodeAnswers(unguarded, missing_everywhere(lacking, asked))


def missing_everywhere(
    lacking: Mapping[str, Mapping[str, str]], asked: Sequence[tuple[Node, Sequence[tuple[str, str]]]]
) -> dict[str, str]:
    """Return the data sets that no node has, and why; one that only some lack is those nodes' fault."""
    missing = {}
    for dataset, why_by_node in lacking.items():
        nodes = sum(any(name == dataset for name, _ in needs) for _, needs in asked)
        node, why = next(iter(why_by_node.items()))
        if len(why_by_node) < nodes:
            raise UserError(f"node {node}: {why}")
        missing[dataset] = why
    return missing


def _needs(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> Iterator[tuple[Node, list[tuple[str, str]]]]:
    """Return the nodes that can get a trial, each with the data that it needs then; the head leads those that part."""
    parting = any(spec.resources.across_nodes for spec in specs)
    for node in nodes:
        mine = [spec for spec in specs if node.fits(spec.resources)]
        if mine or (node.head and parting):
            yield node, sorted({(spec.recipe.data.dataset, spec.execution.model_dump_json()) for spec in mine})


def probe_node(
    path: str, word: str, needs: Sequence[tuple[str, str]], far: RemoteStaging | None = None, node: str = ""
) -> tuple[str, bool, dict[str, str]]:
    """Run on a node: return what is wrong there (nothing: ""), whether it asks for a token, and the data it lacks."""
    import importlib.util
    import os

    from dnw_core.data import check_dataset

    authenticated = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    trouble = _look(Path(path), word) if far is None else far.probe(word, node)
    if trouble:
        return trouble, False, {}
    for package in ("torch", "pyarrow", "pydantic"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed there; install this project's dependencies on it", False, {}
    missing: dict[str, str] = {}
    for dataset, execution in needs:
        try:
            check_dataset(dataset, Execution.model_validate_json(execution))
        except DataMissingError as error:
            missing[dataset] = str(error)
        except UserError as error:
            return str(error), False, {}
    return "", authenticated, missing


def _look(path: Path, word: str) -> str:
    import os

    results = path.parents[2]
    try:
        seen = path.read_text("utf-8")
    except OSError:
        seen = ""
    if seen != word:
        return f"it does not see the results folder {results} of the driver; put --results-dir on a shared disk"
    if not os.access(path.parent, os.W_OK):
        return f"it may not write into the results folder {results}"
    return ""


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
