"""One tree's process of ``step_against.py``: builds a row's network with the tree's own code, runs a step when asked.

Its file is the working tree's; ``benchmarks.training_step``, and with it all that is measured, is that of the tree that
stands first in ``sys.path``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from types import ModuleType
from typing import Any, NamedTuple

STATIC: dict[str, Any] = {"kind": "tiny-static"}
GRAPH: dict[str, Any] = {"kind": "graph-mobilenet"}
MOBILENET: dict[str, Any] = {"kind": "mobilenet-v1", "width_multiplier": 0.25}
WIDE: dict[str, Any] = {"kind": "wide-resnet", "depth": 22, "widen": 2}
RESNET: dict[str, Any] = {"kind": "resnet50", "image_size": 32, "classes": 10}


class Row(NamedTuple):
    """A network, a rule and a batch to measure."""

    network: dict[str, Any]
    wiring: dict[str, Any]
    batch: int
    all_live: bool = False  # the kept edges are moved to where each of them is live, as in a trained network


ROWS: dict[str, Row] = {
    "static": Row(STATIC, {"rule": "top-edges", "density": 0.05}, 512),
    "static, all edges live": Row(STATIC, {"rule": "top-edges", "density": 0.05}, 512, all_live=True),
    "discrete": Row({"kind": "tiny-discrete"}, {"rule": "top-edges", "density": 0.05}, 512),
    "continuous": Row({"kind": "tiny-continuous", "ode_ends": "reference"}, {"rule": "top-edges", "density": 0.05}, 64),
    "dnw-x0.225": Row(GRAPH, {"rule": "top-edges", "width": 0.225}, 128),
    "random-x0.225": Row(GRAPH, {"rule": "fixed-random", "width": 0.225}, 128),
    "no-update": Row(GRAPH, {"rule": "no-update", "width": 0.225}, 128),
    "mobilenet-x0.25": Row(MOBILENET, {"rule": "complete"}, 128),
    "wrn-22-2": Row(WIDE, {"rule": "top-edges", "density": 0.1}, 128),
    "resnet50": Row(RESNET, {"rule": "top-edges", "density": 0.1}, 128),
}


def recipe_values(row: Row, precision: str) -> dict[str, Any]:
    """Return the recipe as plain values, so that either tree can read it."""
    return {
        "network": row.network,
        "wiring": row.wiring,
        "data": {"dataset": "cifar10"},
        "schedule": {"kind": "multi-step", "milestones": [80, 120]},
        "epochs": 160,
        "batch_size": row.batch,
        "precision": precision,
    }


def serve(row: Row, precision: str, threads: int) -> None:
    """Build the row's network; for each line on standard input run a step and print its times."""
    import torch

    import benchmarks.training_step as tree  # this process's own

    torch.set_num_threads(threads)
    recipe, dropped = known_recipe(tree, recipe_values(row, precision))
    device = torch.device("cpu")
    tree.set_numerics(recipe.precision, device, threads)
    network, _ = tree.build_wired(recipe.network, recipe.wiring, 0)
    if row.all_live:
        make_all_live(tree, network)
    optimiser = tree.make_optimiser(recipe, network)
    for group in optimiser.param_groups:
        group["lr"] = 1e-4
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(row.batch, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 10, (row.batch,), generator=generator)
    step = tree.TrainingStep(recipe, network, optimiser)
    batch = tree.Batch(images, labels, row.batch)
    print(json.dumps({"dropped": dropped}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        step(batch)
        times = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**times, "peak": peak}), flush=True)


def known_recipe(tree: ModuleType, values: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the recipe without the settings that this tree does not know yet, and their names."""
    from pydantic import ValidationError

    dropped: list[str] = []
    while True:
        try:
            return tree.Recipe.model_validate(values), dropped
        except ValidationError as error:
            unknown = [line["loc"] for line in error.errors() if line["type"] == "extra_forbidden"]
            if not unknown:
                raise
            for section, *_, name in unknown:
                values[str(section)] = {key: value for key, value in values[str(section)].items() if key != name}
                dropped.append(f"{section}.{name}")


def make_all_live(tree: ModuleType, network: Any) -> None:
    """Make live edges the largest, as many as are kept: so it is once a wiring was learnt."""
    import torch

    ((attached, graph),) = zip(tree.attached_rules(network), network.graphs(), strict=True)
    usable = attached.rule.slots.usable
    generator = torch.Generator().manual_seed(0)
    mask = attached.edges().clone()
    for _ in range(100):
        live = network.liveness({graph.name: mask})[graph.name]
        missing = int(mask.sum()) - int(live.edges.sum())
        if not missing:
            break
        free = usable & ~live.edges
        if live.nodes.any():
            free &= live.nodes[: free.shape[1]]
        drawn = torch.where(free, torch.rand(free.shape, generator=generator), -1.0)
        mask = live.edges.clone()
        mask.view(-1)[drawn.flatten().topk(missing).indices] = True
    weight = attached.weight.data
    weight[mask] = torch.sign(weight[mask]) * (weight[mask].abs() + weight.abs().max())
    weight /= weight[mask].abs().mean() / weight[~mask].abs().mean()  # magnitudes as they were, about
    assert torch.equal(attached.edges(), mask)
    print(f"{int(mask.sum()) - missing} of {int(mask.sum())} edges are live", file=sys.stderr)
