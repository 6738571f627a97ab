"""The device of a trial, its workers, and its share of the machine. Changes no result."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.config import Execution, Recipe
from dnw_core.errors import UserError
from pipelines.spec import Resources, TrialSpec
from pipelines.trial import share_for
from tune_configs import RowResources

DeviceChoice = Literal["auto", "cpu", "cuda"]
TrialsPerGpu = int | Literal["auto"] | None


@dataclass(frozen=True)
class Placement:
    """Where and how trials run, as the command asks; ``device`` is chosen already.

    A row's ``cpus`` and ``gpus`` are those of a whole trial. More than one GPU means as many workers, each with one GPU
    and an equal share of the cores. On a CPU a trial has one worker with all of the row's cores; with ``workers`` it
    has so many, each with as many cores. A row whose ``gpus`` is 0 is trained on CPUs on every machine.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None  # of a worker
    workers: int | None = None
    trials_per_gpu: TrialsPerGpu = None  # auto: found by a probe on the GPUs (gpu_memory.py)
    gpus_here: int | None = None  # of this machine; None on a cluster, whose machines are asked later
    checkpoint_minutes: float = 5.0
    compile: bool = False
    data_dir: str | None = None
    cache_dir: Path | None = None
    download: bool = False

    def resources(self, row: str, asked: RowResources, recipe: Recipe) -> Resources:
        """Return what a trial requests of its machine; see ``workers_of``."""
        workers, _ = self.workers_of(row, asked, recipe)
        cpus = self._cores(asked) * workers
        if self.device_of(asked) == "cpu":
            return Resources(cpus=cpus, workers=workers)
        if isinstance(self.trials_per_gpu, int):
            return Resources(cpus=cpus, gpus=share_for(self.trials_per_gpu))
        return Resources(cpus=cpus, gpus=workers if workers > 1 else min(1.0, asked.gpus), workers=workers)

    def execution(self, row: str, asked: RowResources, recipe: Recipe) -> Execution:
        """Return where and how the trial runs; see ``workers_of``."""
        workers, _ = self.workers_of(row, asked, recipe)
        cores = max(1, int(self._cores(asked)))
        device = self.device_of(asked)
        return Execution(
            device=device,
            threads=cores,
            checkpoint_minutes=self.checkpoint_minutes,
            compile=self.compile,
            workers=workers,
            loader_workers=cores if device == "cuda" else 0,  # on a CPU the cores are busy with training
            data_dir=self.data_dir,
            cache_dir=self.cache_dir,
            download=self.download,
        )

    def workers_of(self, row: str, asked: RowResources, recipe: Recipe) -> tuple[int, str | None]:
        """Return how many workers share each batch of a trial, and a line if that is not what was asked for.

        Each of the recipe's groups of a batch is normalised separately, by whichever worker, so the number of workers
        changes no result; it must divide the number of groups.

        Args:
            row: ``table/row``, for messages.
            asked: the row's resources.
            recipe: whose batches are shared.

        Raises:
            UserError: if so many workers cannot share the groups of a batch, or this machine has too few GPUs.
        """
        groups = recipe.batch_groups
        cuda = self.device_of(asked) == "cuda"
        if cuda and isinstance(self.trials_per_gpu, int):
            return 1, None
        if self.workers is None:
            own = _gpus(asked) if cuda else 1
            if own not in recipe.worker_counts:
                raise UserError(f"{row} asks for {own} GPUs: {_unevenly(own, recipe)}")
            fewer = own if self.gpus_here is None else self._most(recipe, own)
            return fewer, None if fewer == own else self._fewer(row, fewer, own)
        if groups == 1 and self.workers > 1:
            return 1, f"{row}: 1 worker, since its batch is one group, normalised as a whole (batch_norm_images)"
        if self.workers not in recipe.worker_counts:
            raise UserError(f"{row} with --workers {self.workers}: {_unevenly(self.workers, recipe)}")
        if cuda and self.gpus_here is not None and self.workers > max(1, self.gpus_here):
            raise UserError(
                f"--workers {self.workers} needs a GPU for each worker and this machine has {self.gpus_here}; "
                f"give --workers {self._most(recipe, self.workers)} for {row}"
            )
        return self.workers, None

    def device_of(self, asked: RowResources) -> Literal["cpu", "cuda"]:
        """Return the device of a row."""
        return self.device if asked.gpus else "cpu"

    def _cores(self, asked: RowResources) -> float:
        """Return the cores of one worker."""
        return float(self.threads or asked.cpus / (_gpus(asked) if self.device_of(asked) == "cuda" else 1))

    def _most(self, recipe: Recipe, wanted: int) -> int:
        limit = max(1, min(wanted, self.gpus_here or 1))
        return max(workers for workers in recipe.worker_counts if workers <= limit)

    def _fewer(self, row: str, workers: int, wanted: int) -> str:
        here = "1 GPU" if self.gpus_here == 1 else f"{self.gpus_here} GPUs"
        return f"{row}: {workers} of {wanted} workers, since this machine has {here}; it is the same trial, only slower"


def _gpus(asked: RowResources) -> int:
    """Return the row's whole GPUs, one per worker; a share of a GPU counts as one."""
    return max(1, int(asked.gpus))


def _unevenly(workers: int, recipe: Recipe) -> str:
    groups = recipe.batch_groups
    return (
        f"{workers} workers cannot share the {groups} group{'s' if groups > 1 else ''} of a batch evenly; "
        f"--workers {' or '.join(map(str, recipe.worker_counts))} would do"
    )


def choose_device(
    wanted: DeviceChoice, *, cluster: bool, trials_per_gpu: TrialsPerGpu, planning: bool
) -> Literal["cpu", "cuda"]:
    """Return the device of every trial.

    ``auto`` is the GPU where there is one. On a cluster it is ``cuda``, since the driver's machine says nothing about
    the nodes (they are checked before anything is trained).

    Args:
        wanted: the value of ``--device``.
        cluster: whether trials run on a cluster.
        trials_per_gpu: the value of ``--trials-per-gpu``.
        planning: ask the CUDA driver only; a run also asks torch, which may be built without CUDA.

    Raises:
        UserError: for ``--device cuda`` or ``--trials-per-gpu`` where there is no GPU.
    """
    if wanted == "cpu":
        if trials_per_gpu is not None:
            raise UserError("--trials-per-gpu does not apply to --device cpu; leave one of them out")
        return "cpu"
    if cluster:
        return "cuda"
    if gpu_count() and (planning or _torch_sees_gpu()):
        return "cuda"
    if trials_per_gpu is not None:
        raise UserError("--trials-per-gpu needs a GPU and this machine has no usable one; leave it out")
    if wanted == "cuda":
        raise UserError("--device cuda needs a GPU and this machine has no usable one; try --device cpu")
    return "cpu"


def gpus_of(device: str, *, cluster: bool) -> int | None:
    """Return how many GPUs this machine has for trials; None on a CPU or a cluster (``gpus_here``)."""
    return gpu_count() if device == "cuda" and not cluster else None


def gpu_count() -> int:
    """Return how many GPUs the CUDA driver shows this process (0 without a driver). Does not load torch."""
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


_MOST_ROWS = 3


def worker_lines(specs: Iterable[TrialSpec]) -> list[str]:
    """Return a line for each kind of trial with several workers, and its rows."""
    rows: dict[Resources, dict[str, None]] = {}
    for spec in specs:
        if spec.resources.workers > 1:
            rows.setdefault(spec.resources, {})[spec.row_name] = None
    return [f"{_names(list(names))}: {_kind(resources)}" for resources, names in rows.items()]


def _kind(resources: Resources) -> str:
    share = resources.share
    each = f"{share.cpus:g} CPU" + (f" and {share.gpus:g} GPU" if share.gpus else "")
    where = ", over several machines, since none fits them all" if resources.across_nodes else ""
    return f"{resources.workers} workers per trial, {each} each{where}"


def _names(rows: Sequence[str]) -> str:
    more = len(rows) - _MOST_ROWS
    shown = ", ".join(rows[:_MOST_ROWS])
    return f"{shown} and {more} more row{'s' if more > 1 else ''}" if more > 0 else shown
