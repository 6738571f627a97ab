"""``--trials-per-gpu auto``: what each row's network takes of a GPU is measured there, and its share follows from it.

A probe is a task of its own on a whole GPU, in a fresh process: a few steps on noise
(``dnw_core/training/memory_probe.py``). What it found is kept by recipe and kind of GPU in ``gpu-memory.json`` in the
results folder, which may be deleted any time. A trial asks for the same share wherever it runs, so where a cluster has
several kinds of GPU the one that takes the fewest trials decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dnw_core.errors import UserError
from dnw_core.files import write_text
from pipelines.cluster import Node
from pipelines.spec import TrialSpec
from pipelines.trial import format_share, load_function, prepare_process, share_for, trials_that_fit

GPU_MEMORY_FILE = "gpu-memory.json"
LOOK = "pipelines.schedule.gpu_memory:look_at_gpu"
PROBE = "dnw_core.training.memory_probe:peak_bytes"

Known = dict[str, dict[str, int]]  # kind of GPU -> recipe -> bytes


class Gpu(NamedTuple):
    """A kind of GPU."""

    name: str
    bytes: int


class _Place(NamedTuple):
    """One machine of those that have a kind of GPU, and the fewest cores that any of them has for each."""

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
    """Return the trials; those that one GPU takes ask for the share that they need. Says what each row gets.

    Args:
        specs: the trials, placed on whole GPUs or their rows' own shares.
        nodes: the machines of the connected Ray.
        results_dir: where measurements are kept.
        say: told a line for each row.
        look: the function that looks at a GPU, as ``module:name``.
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
    """Return what was measured before; nothing where the file is missing or is not what was written."""
    try:
        found: Any = json.loads((results_dir / GPU_MEMORY_FILE).read_text("utf-8"))
        return {
            str(name): {str(key): int(value) for key, value in sizes.items() if int(value) > 0}
            for name, sizes in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def look_at_gpu() -> tuple[str, int]:
    """Return name and memory of the GPU that this process was given."""
    import torch

    found = torch.cuda.get_device_properties(0)
    return str(found.name), int(found.total_memory)


def _may_share(spec: TrialSpec) -> bool:
    return spec.resources.gpus > 0 and spec.resources.workers == 1 and not spec.resources.across_nodes


def _key(spec: TrialSpec) -> str:
    return spec.fingerprint + ("+compile" if spec.execution.compile else "")


def _with_share(spec: TrialSpec, share: float) -> TrialSpec:
    return spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus": share})})


def _places(nodes: Sequence[Node], look: str) -> dict[Gpu, _Place]:
    """Look at a GPU of each machine."""
    import ray

    asked = {node.id: _on(node, _call).remote(look) for node in nodes}
    found: dict[Gpu, _Place] = {}
    for node in nodes:
        gpu, cores = Gpu(*ray.get(asked[node.id])), node.cpus / node.gpus
        found[gpu] = _Place(node, min(cores, found[gpu].cores if gpu in found else cores))
    return found


def _measure(
    sharing: Mapping[str, TrialSpec], places: Mapping[Gpu, _Place], known: Known, probe: str, say: Callable[[str], None]
) -> None:
    """Run the probes that are missing, as many at once as there are GPUs, and enter what they found."""
    import ray

    asked = {
        _on(place.node, _probe).remote(probe, spec.model_dump_json()): (gpu.name, key)
        for gpu, place in places.items()
        for key, spec in sharing.items()
        if key not in known.get(gpu.name, {})
    }
    for answer, (name, key) in asked.items():
        try:
            known.setdefault(name, {})[key] = int(ray.get(answer))
        except Exception as error:  # out of memory, or a mistake that the trial will record as its own
            spec = sharing[key]
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            say(f"{spec.table}/{spec.row}: its memory on {name} could not be measured ({why})")


def _on(node: Node, function: Callable[..., Any]) -> Any:
    """Return the function as a task with a GPU of the machine, in a process that ends with it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return ray.remote(num_gpus=1, num_cpus=0, max_calls=1, max_retries=1)(function).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
    )


def _call(function: str) -> tuple[str, int]:
    found: tuple[str, int] = load_function(function)()
    return found


def _probe(function: str, spec_json: str) -> int:
    spec = TrialSpec.model_validate_json(spec_json)
    execution = spec.execution
    if execution.device.startswith("cuda"):
        execution = execution.model_copy(update={"device": "cuda"})
    prepare_process(execution)
    size: int = load_function(function)(spec.recipe, execution)
    return size
