"""On which device a trial runs and how much of the machine it asks for. Changes no result."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.errors import UserError
from dnw_core.execution import Execution
from pipelines.spec import Resources
from tune_configs import RowResources

DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Placement:
    """The command's wishes about where and how trials run; ``device`` is settled."""

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None
    trials_per_gpu: int | None = None
    checkpoint_minutes: float = 5.0
    compile: bool = False
    data_dir: str | None = None
    cache_dir: Path | None = None
    download: bool = False

    def resources(self, asked: RowResources) -> Resources:
        """Return what a trial asks of the machine."""
        cpus = float(self.threads or asked.cpus)
        if self.device == "cpu":
            return Resources(cpus=cpus)
        return Resources(cpus=cpus, gpus=1 / self.trials_per_gpu if self.trials_per_gpu else asked.gpus)

    def execution(self, asked: RowResources) -> Execution:
        """Return where and how the trial runs."""
        return Execution(
            device=self.device,
            threads=self.threads or max(1, int(asked.cpus)),
            checkpoint_minutes=self.checkpoint_minutes,
            compile=self.compile,
            data_dir=self.data_dir,
            cache_dir=self.cache_dir,
            download=self.download,
        )


def settle_device(
    wanted: DeviceChoice, *, cluster: bool, trials_per_gpu: int | None, planning: bool
) -> Literal["cpu", "cuda"]:
    """Return the device of every trial.

    ``auto`` is the GPU where there is one; on a cluster it is ``cuda``, since the driver's machine says nothing
    about the nodes (they are looked at before anything is trained).

    Args:
        wanted: what ``--device`` says.
        cluster: whether trials run on a cluster.
        trials_per_gpu: what ``--trials-per-gpu`` says.
        planning: only ask the driver library; a run also asks torch, which may be built without CUDA.

    Raises:
        UserError: for ``--device cuda`` or ``--trials-per-gpu`` where there is no GPU.
    """
    if wanted == "cpu":
        if trials_per_gpu is not None:
            raise UserError("--trials-per-gpu means nothing with --device cpu; leave one of them out")
        return "cpu"
    if cluster:
        return "cuda"
    if gpu_count() and (planning or _torch_sees_gpu()):
        return "cuda"
    if trials_per_gpu is not None:
        raise UserError("--trials-per-gpu needs a GPU and this machine has none that can be used; leave it out")
    if wanted == "cuda":
        raise UserError("--device cuda needs a GPU and this machine has none that can be used; try --device cpu")
    return "cpu"


def gpu_count() -> int:
    """Return how many GPUs the CUDA driver shows this process (0 without a driver). Loads no torch."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def _torch_sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
