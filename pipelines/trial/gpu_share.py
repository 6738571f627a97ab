"""How many trials share a GPU, and what happens to one whose share was too small. Pure; knows no torch and no Ray."""

from __future__ import annotations

import math

from dnw_core.errors import DnwError
from pipelines.spec import Resources

MARGIN = 0.1
"""Part of a GPU's memory that is left free, for fragments and for what a probe of a few steps does not reach."""

CONTEXT_BYTES = 600 * 2**20
"""What CUDA and its libraries take for each process beside torch's own memory (measured values are below it)."""

MAX_TRIALS = 8
"""Trials on one GPU; more gain nothing, because their kernels take turns."""


class GpuShareTooSmallError(DnwError):
    """A trial on a share of a GPU ran out of its memory; it goes on with a larger share."""


def trials_that_fit(peak_bytes: int, gpu_bytes: int, cores: float, cores_a_trial: float) -> int:
    """Return how many equal trials one GPU takes.

    Args:
        peak_bytes: most memory that one of them reserves on the GPU, without CUDA's own.
        gpu_bytes: the GPU's memory.
        cores: the machine's cores for each of its GPUs.
        cores_a_trial: cores that a trial asks for.
    """
    by_memory = int(gpu_bytes * (1.0 - MARGIN) / (peak_bytes + CONTEXT_BYTES))
    by_cores = int(cores / cores_a_trial + 1e-6)
    return max(1, min(by_memory, by_cores, MAX_TRIALS))


def share_for(trials: int) -> float:
    """Return the share of a GPU for one of so many trials; Ray counts in ten-thousandths, and all of them must fit."""
    return math.floor(1e4 / trials + 1e-6) / 1e4


def doubled(resources: Resources) -> Resources:
    """Return the resources with twice the share of a GPU, at most a whole one."""
    return resources.model_copy(update={"gpus": min(1.0, 2 * resources.gpus)})


def is_share(resources: Resources) -> bool:
    """Whether a trial has less than a whole GPU."""
    return 0 < resources.gpus < 1


def format_share(gpus: float) -> str:
    """Return a share in words: ``1/4 of a GPU``, ``a whole GPU``."""
    parts = round(1 / gpus)
    if gpus >= 1:
        return "a whole GPU"
    return f"1/{parts} of a GPU" if math.isclose(gpus * parts, 1.0, rel_tol=1e-3) else f"{gpus:g} of a GPU"


def memory_advice(batch_groups: int) -> str:
    """Return what the user can do for a trial that ran out of memory on a whole GPU."""
    workers = "--workers N, which lets several GPUs share its batch, or " if batch_groups > 1 else ""
    return f"a whole GPU has too little memory for it; {workers}a GPU with more memory would do"


def is_out_of_gpu_memory(error: BaseException) -> bool:
    """Whether a GPU had no memory left: torch's own error, or what CUDA and its libraries raise in its place."""
    if type(error).__name__ == "OutOfMemoryError" and type(error).__module__.partition(".")[0] == "torch":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda" in text and ("out of memory" in text or "alloc_failed" in text)
