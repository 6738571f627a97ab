"""The training step of an earlier commit and of this working tree, in alternating processes.

``python benchmarks/training_step.py --against COMMIT``. Each tree has a process of its own for each row, which imports
its own ``benchmarks/training_step.py`` and everything below it. One step at a time is run, by the two in turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = "benchmarks/training_step.py"
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


class Figures(NamedTuple):
    """Medians of one tree's steps."""

    cpu: float  # seconds of processor time, all threads together
    wall: float  # seconds
    peak: float  # bytes of the process


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


# ---- in the process of a tree ----------------------------------------------------------------------------------------


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


# ---- in the process that compares ------------------------------------------------------------------------------------


def compare_with(commit: str, names: Sequence[str], precision: str, repeats: int, threads: int, *, dirty: bool) -> None:
    """Print a table of both trees' steps.

    Raises:
        SystemExit: with 2, if the commit has no such benchmark, or the working tree has uncommitted changes.
    """
    found = git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not found:
        refuse(f"--against: {commit} is not a commit of this repository; git log --oneline lists them")
    if not git("ls-tree", "--name-only", found, BENCHMARK):
        refuse(f"--against: commit {found[:10]} has no {BENCHMARK}; name a later commit")
    changed = git("status", "--porcelain", "--untracked-files=no")
    if changed and not dirty:
        refuse("--against measures what is committed; commit your changes, or add --dirty to measure them as they are")
    here = f"{git('rev-parse', '--short=10', 'HEAD')}{' + changes' if changed else ''}"
    print(f"{found[:10]} and {here}, {precision}, {threads} thread(s), medians of {repeats} alternating steps")
    print("row                     batch   CPU s before   now  ratio   wall before   now  ratio   peak MB before  now")
    with checked_out(found) as before:
        for name in names:
            row = ROWS[name]
            old, new, dropped = measure(before, ROOT, name, precision, repeats, threads)
            print(
                f"{name:23s} {row.batch:5d}  {old.cpu:13.3f} {new.cpu:5.3f}  {new.cpu / old.cpu:5.2f}"
                f"  {old.wall:12.3f} {new.wall:5.3f}  {new.wall / old.wall:5.2f}"
                f"  {old.peak / 1e6:14.0f} {new.peak / 1e6:4.0f}"
                + (f"   (before: no {', '.join(dropped)})" if dropped else ""),
                flush=True,
            )


def measure(
    before: Path, now: Path, name: str, precision: str, repeats: int, threads: int
) -> tuple[Figures, Figures, list[str]]:
    """Return both trees' figures for a row, and the settings that the earlier one lacks."""
    with contextlib.ExitStack() as stack:
        trees = [stack.enter_context(started(tree, name, precision, threads)) for tree in (before, now)]
        dropped: list[list[str]] = [answer(process)["dropped"] for process in trees]
        steps: list[list[Mapping[str, float]]] = [[], []]
        for repeat in range(repeats + 2):
            for process, kept in zip(trees, steps, strict=True):
                process.stdin.write("step\n")
                process.stdin.flush()
                figures = answer(process)
                if repeat >= 2:  # the first two warm up: memory, and the first selection of edges
                    kept.append(figures)
    old, new = (
        Figures(*(statistics.median(step[field] for step in kept) for field in Figures._fields)) for kept in steps
    )
    return old, new, dropped[0]


@contextlib.contextmanager
def started(tree: Path, name: str, precision: str, threads: int) -> Iterator[Any]:
    """The process of a tree, which waits for lines."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('step_against', {str(Path(__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['step_against'] = module\n"
        f"spec.loader.exec_module(module)\nmodule.serve(module.ROWS[{name!r}], {precision!r}, {threads})\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(threads)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tree, env=variables, stdin=pipe, stdout=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: Any) -> Any:
    """The next line of a tree's process."""
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a measured process ended; its error is above")
    return json.loads(line)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the commit's files."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*words: str) -> str:
    """What git says of this repository, or nothing if it fails."""
    ran = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def refuse(why: str) -> None:
    """End with one line and exit code 2."""
    print(f"error: {why}", file=sys.stderr)
    raise SystemExit(2)
