"""Looking at the machines before anything is trained on them.

A trial whose resources fit on no node would wait for ever without a word; a node that does not see the results
folder or the data would fail every trial it is given, quickly, and so be given the next one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from dnw_core.execution import Execution
from pipelines.spec import Resources, TrialSpec

PROBE_SECONDS = 120.0  # a node may first have to unpack the code


@dataclass(frozen=True)
class Node:
    """One living machine of the cluster."""

    id: str
    name: str
    cpus: float
    gpus: float

    def fits(self, resources: Resources) -> bool:
        """Whether a trial that asks for ``resources`` can run here at all."""
        return resources.cpus <= self.cpus and resources.gpus <= self.gpus

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
        )
        for node in description
        if node.get("Alive")
    ]


def check_resources(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> None:
    """Check that every trial fits on one node.

    Raises:
        UserError: names the first row that does not, what it asks for, and what there is.
    """
    for spec in specs:
        asked = spec.resources
        if not any(node.fits(asked) for node in nodes):
            there = (
                ", ".join(map(str, sorted(nodes, key=lambda node: (-node.gpus, -node.cpus))[:5])) or "no node at all"
            )
            raise UserError(
                f"{spec.table}/{spec.row} asks for {asked.cpus:g} CPU and {asked.gpus:g} GPU on one machine, "
                f"and none has that: there is {there}"
            )


def check_nodes(specs: Sequence[TrialSpec], nodes: Sequence[Node], folder: Path) -> list[str]:
    """Ask every node that can get a trial whether it sees the same results folder, the data and the code.

    Args:
        specs: the trials to come.
        nodes: the cluster's nodes.
        folder: a folder of this run below the results folder; a random word is left there for the nodes to read.

    Returns:
        The names of nodes that run without token authentication.

    Raises:
        UserError: names the node and what is wrong with it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    word = secrets.token_hex(16)
    path = folder / "probe"
    path.write_text(word, "utf-8")
    useful = [node for node in nodes if any(node.fits(spec.resources) for spec in specs)]
    needs = sorted({(spec.recipe.data.dataset, spec.execution.model_dump_json()) for spec in specs})
    task = ray.remote(num_cpus=0, max_retries=0)(probe_node)
    answers = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            str(path), word, needs
        ): node
        for node in useful
    }
    _, late = ray.wait(list(answers), num_returns=len(answers), timeout=PROBE_SECONDS)
    if late:
        raise UserError(f"node {answers[late[0]].name} did not answer within {PROBE_SECONDS:.0f} s; is it overloaded?")
    open_nodes = []
    for answer, node in answers.items():
        try:
            trouble, authenticated = ray.get(answer)
        except Exception as error:  # what Ray raises here has no common base
            raise UserError(f"node {node.name} cannot run this project: {_last_line(error)}") from None
        if trouble:
            raise UserError(f"node {node.name}: {trouble}")
        if not authenticated:
            open_nodes.append(node.name)
    return open_nodes


def probe_node(path: str, word: str, needs: Sequence[tuple[str, str]]) -> tuple[str, bool]:
    """Run on a node: return what is wrong there (nothing: ""), and whether it asks for a token."""
    import importlib.util
    import os

    from dnw_core.data import check_dataset

    authenticated = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    results = Path(path).parents[2]
    try:
        seen = Path(path).read_text("utf-8")
    except OSError:
        seen = ""
    if seen != word:
        return f"it does not see the results folder {results} of the driver; put --results-dir on a shared disk", False
    if not os.access(Path(path).parent, os.W_OK):
        return f"it may not write into the results folder {results}", False
    for package in ("torch", "pyarrow", "pydantic"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed there; install this project's dependencies on it", False
    for dataset, execution in needs:
        try:
            check_dataset(dataset, Execution.model_validate_json(execution))
        except UserError as error:
            return str(error), False
    return "", authenticated


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
