"""Where a result comes from: code, packages, machine."""

from __future__ import annotations

import contextlib
import functools
import platform
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dnw_core.code_version import code_version
from dnw_core.record import Provenance
from dnw_core.training.checkpoints.trial_log import now
from dnw_core.training.engine.numerics import release_freed_memory
from dnw_core.training.engine.state import TrainingState

PACKAGES = ("torch", "torchvision", "torchdiffeq", "pytorchcv", "numpy")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def collect_provenance(state: TrainingState, data_checksum: str) -> Provenance:
    """Return the provenance of a trial that ends now in this process."""
    commit, dirty = code_version()
    device = state.device
    return Provenance(
        commit=commit,
        dirty=dirty,
        packages={name: _package_version(name) for name in PACKAGES},
        python=platform.python_version(),
        hostname=platform.node(),
        processor=_processor(),
        accelerator=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        device=str(device),
        threads=state.threads,
        workers=state.workers,
        data_checksum=data_checksum,
        started_at=state.started_at,
        finished_at=now(),
        resumed=state.resumed,
        parent=state.parent,
    )


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new peak: a process may have trained another trial before, and kept memory of it."""
    release_freed_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # Linux only; elsewhere the peak is the process's
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory since ``reset_peak_memory``: of the device on CUDA, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
