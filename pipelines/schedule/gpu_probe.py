"""What runs on the GPU to measure trials: a few steps on noise (``dnw_core/training/memory_probe.py``)."""

from __future__ import annotations

from pipelines.spec import TrialSpec
from pipelines.trial import load_function, prepare_process

LOOK = "pipelines.schedule.gpu_probe:look_at_gpu"
PROBE = "dnw_core.training.memory_probe:peak_bytes"


def look_at_gpu() -> tuple[str, int]:
    """Return name and memory of the GPU that this process was given."""
    import torch

    found = torch.cuda.get_device_properties(0)
    return str(found.name), int(found.total_memory)


def call_look(function: str) -> tuple[str, int]:
    """Call the function, given as ``module:name``, that names this process's GPU and its bytes."""
    found: tuple[str, int] = load_function(function)()
    return found


def call_probe(function: str, spec_json: str) -> int:
    """Call the function, given as ``module:name``, that measures the bytes that a trial needs."""
    spec = TrialSpec.model_validate_json(spec_json)
    execution = spec.execution
    if execution.device.startswith("cuda"):
        execution = execution.model_copy(update={"device": "cuda"})
    prepare_process(execution)
    size: int = load_function(function)(spec.recipe, execution)
    return size
