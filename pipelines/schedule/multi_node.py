"""One trial whose workers are on several machines, started by Ray Train from within the trial of Ray Tune.

The trial's own process, on the head, trains nothing and claims nothing (``tune_setup``): Ray Train claims the places of
all workers at once or none, wherever they are, so two trials never wait for each other's half. All else goes through
the results folder, which every machine sees: the first worker writes the trial's own files there, and a line for each
epoch that the trial's process reads; a request to stop is the same file as everywhere.

When a worker is lost, all are started again, and they go on from the trial's checkpoint. Ray Train would do so, too
(``FailureConfig``), but it counts failures over a trial of a week as over one of a minute, and repeats what a trial
has raised itself. So a group that failed comes back here: what it raised is handed on, a loss is followed by a new
group, and only losses without a new checkpoint between them are counted.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dnw_core.config import Execution, Recipe
from dnw_core.errors import DnwError, PeerLostError, TrialFailedError, TrialStopped
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, RECORD_FILE, EpochMetrics, TrialRecord, read_record
from pipelines.driver import MAX_DEATHS
from pipelines.spec import Resources
from pipelines.trial import load_function, prepare_process

if TYPE_CHECKING:
    from dnw_core.training import TrialIdentity

_STOPPED, _DONE = "stopped", "done"
_POLL_SECONDS = 0.5
_COLLECTIVE_SECONDS = 7200  # a worker may have to prepare its data while the others wait


@dataclass(frozen=True)
class WorkerJob:
    """What every worker is told; goes through pickle."""

    recipe: Recipe
    seed: int
    execution: Execution
    folder: Path
    identity: TrialIdentity
    parent: Path | None
    should_stop: Callable[[], bool] | None
    train: str  # the function that trains a worker's share, as ``module:name``
    epochs: Path = Path()  # file for the first worker's epochs, a line each
    resumed: int = 0  # times that the workers were started again


class MultiNodeTrainer:
    """Stands in for ``run_trial`` where no machine takes all workers of a trial.

    Args:
        resources: of the trial, all workers together.
        folder: where Ray Train may leave its own files; on a disk that all machines share.
        train: the function that trains on one machine, as ``module:name``; the worker's stands in the same module and
            is called ``run_worker``.
    """

    def __init__(self, resources: Resources, folder: Path, train: str) -> None:
        self._resources = resources
        self._folder = folder
        self._train = f"{train.partition(':')[0]}:run_worker"

    def __call__(
        self,
        recipe: Recipe,
        seed: int,
        execution: Execution,
        folder: Path,
        identity: TrialIdentity,
        *,
        parent: Path | None = None,
        on_epoch: Callable[[EpochMetrics], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> TrialRecord:
        """Train one trial; see ``run_trial``. ``should_stop`` is asked by the first worker, so it goes through pickle.

        Raises:
            TrialFailedError: what a worker raised, or workers were lost again and again without a new checkpoint.
            TrialStopped: a checkpoint was written on request.
        """
        from dnw_core.training.checkpoints.trial_log import TrialLog

        job = WorkerJob(recipe, seed, execution, folder, identity, parent, should_stop, self._train)
        tell = _once_each(on_epoch)
        losses = 0
        while True:
            before = _checkpoint_mark(folder)
            try:
                if self._run_group(job, tell) == _STOPPED:
                    raise TrialStopped
                return read_record(folder / RECORD_FILE)
            except WorkerGroupError as error:
                lost = _what_was_lost(error.failures)
            if should_stop is not None and should_stop():
                raise TrialStopped
            losses = losses + 1 if _checkpoint_mark(folder) == before else 1
            if losses > MAX_DEATHS:
                raise TrialFailedError(f"{lost}, the {losses}th time without a new checkpoint")
            job = replace(job, resumed=job.resumed + 1)
            with TrialLog(folder / LOG_FILE) as log:
                log.write(f"{lost}; all {self._resources.workers} workers start again from the last checkpoint")

    def _run_group(self, job: WorkerJob, on_epoch: Callable[[EpochMetrics], None]) -> str:
        """Run one group of workers to its end, telling the epochs on the way; return how it ended."""
        from ray.train import RunConfig, ScalingConfig, WorkerGroupError
        from ray.train.torch import TorchConfig, TorchTrainer

        share = self._resources.share
        name = uuid.uuid4().hex  # a new one each time: Ray Train takes a name that it has met for a run to be restored
        self._folder.mkdir(parents=True, exist_ok=True)
        epochs = MetricsFile(self._folder / f"{name}.epochs")
        trainer = TorchTrainer(
            train_share,
            train_loop_config={"job": replace(job, epochs=epochs.path)},
            torch_config=TorchConfig(backend="nccl" if share.gpus else "gloo", timeout_s=_COLLECTIVE_SECONDS),
            scaling_config=ScalingConfig(
                num_workers=self._resources.workers,
                use_gpu=bool(share.gpus),
                resources_per_worker={"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {}),
            ),
            run_config=RunConfig(name=name, storage_path=str(self._folder)),
        )
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(trainer.fit)
            ended = False
            while not ended:
                ended = wait([running], timeout=_POLL_SECONDS).done != set()
                for line in epochs.new():
                    on_epoch(line)
        try:
            how: str = running.result().return_value
        except WorkerGroupError as error:
            raise WorkerGroupError(error.worker_failures) from None
        return how


class WorkerGroupError(DnwError):
    """A group of workers ended early; holds what Ray Train says of the workers that failed."""

    def __init__(self, failures: dict[int, Exception]) -> None:
        super().__init__(failures)
        self.failures = failures


class MetricsFile:
    """The epochs of a trial as the lines of a file: one machine writes, another one reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def add(self, line: EpochMetrics) -> None:
        """Write one epoch; the file is closed then, so that it can be seen elsewhere."""
        with self.path.open("a") as file:
            file.write(line.model_dump_json() + "\n")

    def new(self) -> list[EpochMetrics]:
        """Return the epochs that were not returned before."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._read += len(whole) + len(newline)
        return [EpochMetrics.model_validate_json(line) for line in whole.splitlines()]


def train_share(told: dict[str, WorkerJob]) -> str:
    """Run in each of Ray Train's workers: train one worker's share, and return how the trial ended."""
    job = told["job"]
    prepare_process(job.execution)
    import ray.train
    import ray.train.torch
    import torch

    from dnw_core.training import WorkerGroup

    execution = job.execution
    if execution.device.startswith("cuda"):
        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)
        execution = execution.model_copy(update={"device": str(device)})
    group = WorkerGroup.joined(torch.device(execution.device))
    try:
        load_function(job.train)(
            job.recipe,
            job.seed,
            execution,
            job.folder,
            job.identity,
            group,
            parent=job.parent,
            on_epoch=MetricsFile(job.epochs).add if group.first else None,
            should_stop=job.should_stop,
            resumed=job.resumed,
        )
    except TrialStopped:
        return _STOPPED
    return _DONE


def _once_each(on_epoch: Callable[[EpochMetrics], None] | None) -> Callable[[EpochMetrics], None]:
    """Return what passes an epoch on, but not one that is trained once more after a loss."""
    told = -1

    def tell(line: EpochMetrics) -> None:
        nonlocal told
        if line.epoch > told and on_epoch is not None:
            told = line.epoch
            on_epoch(line)

    return tell


def _what_was_lost(failures: dict[int, Exception]) -> str:
    """Return in words which workers were lost, as their peers and Ray report it.

    Raises:
        Exception: what a worker raised itself, if one did; losses are what the others suffered from it then.
    """
    for _, failure in sorted(failures.items()):
        of_ray = type(failure).__module__.split(".")[0] == "ray"
        if not (of_ray or isinstance(failure, PeerLostError)):
            raise failure
    lost = sorted(rank for rank, failure in failures.items() if not isinstance(failure, PeerLostError))
    who = f"worker {', '.join(map(str, lost))}" if lost else "a worker"
    return f"{who} was lost (killed, out of memory, or its machine is gone)"


def _checkpoint_mark(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes with every new checkpoint, whatever the clock does: each one is a new file."""
    try:
        found = (folder / CHECKPOINT_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
