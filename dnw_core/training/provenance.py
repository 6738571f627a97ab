"""Where a result comes from: code, packages, machine."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dnw_core.record import Provenance

PACKAGES = ("torch", "torchvision", "torchdiffeq", "numpy")
# set by the driver where trials run without the git checkout (nodes of a cluster)
COMMIT_VARIABLE = "DNW_COMMIT"


def code_version() -> tuple[str, bool]:
    """Return the git commit of the code and whether the checkout differs from it; ("unknown", False) without git."""
    told = os.environ.get(COMMIT_VARIABLE)
    if told:
        return told.removesuffix("+dirty"), told.endswith("+dirty")
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown", False
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False
    return commit, dirty


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def collect_provenance(
    device: torch.device, threads: int, data_checksum: str, started_at: str, finished_at: str, resumed: int
) -> Provenance:
    """Return the provenance of a trial that ran in this process."""
    commit, dirty = code_version()
    return Provenance(
        commit=commit,
        dirty=dirty,
        packages={name: _package_version(name) for name in PACKAGES},
        python=platform.python_version(),
        hostname=platform.node(),
        processor=_processor(),
        accelerator=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        device=str(device),
        threads=threads,
        data_checksum=data_checksum,
        started_at=started_at,
        finished_at=finished_at,
        resumed=resumed,
    )


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory: of the device on CUDA, else of this process since it began."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
