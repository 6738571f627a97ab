"""``--trials-per-gpu auto``: the memory of each row's network is measured on a GPU, and its share follows from it.

A probe is a task of its own on a whole GPU, in a fresh process (``gpu_probe``). Its result is kept by recipe and kind
of GPU in ``gpu-memory.json`` in the results folder, which may be deleted at any time. A trial asks for the same share
wherever it runs, so where a cluster has several kinds of GPU the one that takes the fewest trials decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dnw_core.errors import UserError
from dnw_core.files import write_text
from pipelines.cluster import Node
from pipelines.schedule.gpu_probe import LOOK, PROBE, call_look, call_probe
from pipelines.spec import TrialSpec
from pipelines.text import one_line
from pipelines.trial import format_share, share_for, trials_that_fit

GPU_MEMORY_FILE = "gpu-memory.json"

Known = dict[str, dict[str, int]]  # kind of GPU -> recipe -> bytes


class Gpu(NamedTuple):
    """A kind of GPU."""

    name: str
    bytes: int


class _Place(NamedTuple):
    """One machine with a kind of GPU, and the fewest cores for each of its GPUs that any such machine has."""

    node: Node
    cores: float


def pack(
    specs: Sequence[TrialSpec],
    nodes: Sequence[Node],
    results_dir: Path,
    say: Callable[[str], None],
    *,
    look: str = LOOK,
    probe: str = PROBE,
) -> list[TrialSpec]:
    """Return the trials; those that fit on one GPU ask for the share that they need. Says what each row gets.

    Args:
        specs: the trials, placed on whole GPUs or their rows' own shares.
        nodes: the machines of the connected Ray.
        results_dir: where measurements are kept.
        say: called with a line for each row.
        look: the function that names a GPU, as ``module:name``.
        probe: the function that measures, as ``module:name``.

    Raises:
        UserError: if trials are to share GPUs and there is none to measure on.
    """
    sharing = {_key(spec): spec for spec in specs if _may_share(spec)}
    if not sharing:
        return list(specs)
    with_gpus = [node for node in nodes if node.gpus >= 1 and not node.future]
    if not with_gpus:
        raise UserError(
            "--trials-per-gpu auto measures on a GPU, and no machine that runs now has a whole one; give a number"
        )
    places = _places(with_gpus, look)
    known = read_known(results_dir)
    _measure(sharing, places, known, probe, say)
    write_text(results_dir / GPU_MEMORY_FILE, json.dumps(known, indent=2, sort_keys=True) + "\n")
    shares = {key: share_of(spec, places, known) for key, spec in sharing.items()}
    for row in dict.fromkeys((spec.table, spec.row, _key(spec)) for spec in specs if _may_share(spec)):
        say(f"{row[0]}/{row[1]}: {format_share(shares[row[2]])} for a trial")
    return [_with_share(spec, shares[_key(spec)]) if _may_share(spec) else spec for spec in specs]


def share_of(spec: TrialSpec, places: Mapping[Gpu, _Place], known: Known) -> float:
    """Return the share of a GPU that a trial gets; a whole one where it could not be measured."""
    key = _key(spec)
    fitting = [
        trials_that_fit(known[gpu.name][key], gpu.bytes, place.cores, spec.resources.cpus)
        if key in known.get(gpu.name, {})
        else 1
        for gpu, place in places.items()
    ]
    return share_for(min(fitting))


def read_known(results_dir: Path) -> Known:
    """Return what was measured before; nothing where the file is missing or damaged."""
    try:
        found: Any = json.loads((results_dir / GPU_MEMORY_FILE).read_text("utf-8"))
        return {
            str(name): {str(key): int(value) for key, value in sizes.items() if int(value) > 0}
            for name, sizes in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _may_share(spec: TrialSpec) -> bool:
    return spec.resources.gpus > 0 and spec.resources.workers == 1 and not spec.resources.across_nodes


def _key(spec: TrialSpec) -> str:
    return spec.fingerprint + ("+compile" if spec.execution.compile else "")


def _with_share(spec: TrialSpec, share: float) -> TrialSpec:
    return spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus": share})})


def _places(nodes: Sequence[Node], look: str) -> dict[Gpu, _Place]:
    """Look at a GPU of each machine."""
    import ray

    asked = {node.id: _on(node, call_look).remote(look) for node in nodes}
    found: dict[Gpu, _Place] = {}
    for node in nodes:
        gpu, cores = Gpu(*ray.get(asked[node.id])), node.cpus / node.gpus
        found[gpu] = _Place(node, min(cores, found[gpu].cores if gpu in found else cores))
    return found


def _measure(
    sharing: Mapping[str, TrialSpec], places: Mapping[Gpu, _Place], known: Known, probe: str, say: Callable[[str], None]
) -> None:
    """Run the probes that are missing, as many at once as there are GPUs, and add their results to ``known``."""
    import ray

    asked = {
        _on(place.node, call_probe).remote(probe, spec.model_dump_json()): (gpu.name, key)
        for gpu, place in places.items()
        for key, spec in sharing.items()
        if key not in known.get(gpu.name, {})
    }
    for answer, (name, key) in asked.items():
        try:
            known.setdefault(name, {})[key] = int(ray.get(answer))
        except Exception as error:  # out of memory, or an error that the trial will record itself
            spec = sharing[key]
            why = one_line(error, limit=200, last=True)
            say(f"{spec.table}/{spec.row}: its memory on {name} could not be measured ({why})")


def _on(node: Node, function: Callable[..., Any]) -> Any:
    """Return the function as a task with a GPU of the machine, in a process that ends with it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return ray.remote(num_gpus=1, num_cpus=0, max_calls=1, max_retries=1)(function).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
    )
