"""Asking each machine, before anything is trained, whether it sees the results folder and the data.

One that does not would fail every trial that it gets, quickly, and so get the next one.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence

from dnw_core.config import Execution
from dnw_core.errors import DataMissingError, UserError
from pipelines.cluster.nodes import Node
from pipelines.cluster.visibility import VisibilityProbe
from pipelines.spec import TrialSpec
from pipelines.text import one_line

PROBE_SECONDS = 120.0  # a node may first have to unpack the code

DataNeed = tuple[str, str]
"""A data set, and the execution settings as JSON that say where it is."""


def check_nodes(
    specs: Sequence[TrialSpec], nodes: Sequence[Node], probe: VisibilityProbe
) -> tuple[list[str], dict[str, str]]:
    """Ask every node that can get a trial whether it sees the same results folder, the data and the code.

    Args:
        specs: the trials to come.
        nodes: the cluster's nodes.
        probe: what the nodes must see; its marker has been written.

    Returns:
        The nodes that run without token authentication, and the data sets that no node has, and why.

    Raises:
        UserError: names a node and what is wrong with it, such as a data set that other nodes have.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(probe_node)
    asked = list(_needs(specs, nodes))
    answers = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            probe, needs, node.id
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
            raise UserError(f"node {node.name} cannot run this project: {one_line(error, last=True)}") from None
        if trouble := trouble or probe.trouble_after(node.id):
            raise UserError(f"node {node.name}: {trouble}")
        if not authenticated:
            unguarded.append(node.name)
        for dataset, why in missing.items():
            lacking.setdefault(dataset, {})[node.name] = why
    return unguarded, missing_everywhere(lacking, asked)


def missing_everywhere(
    lacking: Mapping[str, Mapping[str, str]], asked: Sequence[tuple[Node, Sequence[DataNeed]]]
) -> dict[str, str]:
    """Return the data sets that no node has, and why.

    Raises:
        UserError: if only some nodes lack a data set; names one of them.
    """
    missing = {}
    for dataset, why_by_node in lacking.items():
        nodes = sum(any(name == dataset for name, _ in needs) for _, needs in asked)
        node, why = next(iter(why_by_node.items()))
        if len(why_by_node) < nodes:
            raise UserError(f"node {node}: {why}")
        missing[dataset] = why
    return missing


def _needs(specs: Sequence[TrialSpec], nodes: Sequence[Node]) -> Iterator[tuple[Node, list[DataNeed]]]:
    """Return the nodes that can get a trial, each with its data; the head leads trials over several nodes."""
    across = any(spec.resources.across_nodes for spec in specs)
    for node in nodes:
        mine = [spec for spec in specs if node.fits(spec.resources)]
        if mine or (node.head and across):
            yield node, sorted({(spec.recipe.data.dataset, spec.execution.model_dump_json()) for spec in mine})


def probe_node(probe: VisibilityProbe, needs: Sequence[DataNeed], node: str) -> tuple[str, bool, dict[str, str]]:
    """Run on a node: return what is wrong there (nothing: ""), whether it asks for a token, and the data it lacks."""
    from dnw_core.data import check_dataset

    if trouble := probe.trouble(node):
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
    return "", os.environ.get("RAY_AUTH_MODE", "").lower() == "token", missing
