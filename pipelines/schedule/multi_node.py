"""One trial whose workers are on several machines, started by Ray Train from within the trial of Ray Tune.

The trial's own process, on the head, trains nothing and claims nothing (``tune_setup``): Ray Train claims the places of
all workers at once or none, wherever they are, so two trials never wait for each other's half. All else goes through
the results folder, which every machine sees: the main worker writes the trial's own files there, and a line for each
epoch that the trial's process reads; a request to stop is the same file as everywhere.

When a worker is lost, all are started again, and they go on from the trial's checkpoint. Ray Train would do so, too
(``FailureConfig``), but it counts failures over a trial of a week as over one of a minute, and repeats what a trial
has raised itself. So a group that failed comes back here: what it raised is raised again, a loss is followed by a new
group, and only losses without a new checkpoint between them are counted (``train_with_restarts``).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from dnw_core.errors import DnwError, PeerLostError, TrialStopped, WorkersLostError
from dnw_core.record import RECORD_FILE, EpochMetrics, TrialRecord, read_record
from dnw_core.task import NO_HOOKS, Hooks, TrialTask
from pipelines.spec import Resources
from pipelines.trial import load_function, prepare_process

_STOPPED, _DONE = "stopped", "done"
_POLL_SECONDS = 0.5
_COLLECTIVE_SECONDS = 7200  # a worker may have to prepare its data while the others wait


@dataclass(frozen=True)
class WorkerJob:
    """What every worker gets; goes through pickle."""

    task: TrialTask
    should_stop: Callable[[], bool]
    train: str  # the function that trains a worker's share, as ``module:name``
    epochs: Path  # file for the main worker's epochs, a line each
    resumed: int  # times that the trial has gone on already


class MultiNodeTrainer:
    """Stands in for ``run_trial`` where no machine takes all workers of a trial.

    Args:
        resources: of the trial, all workers together.
        folder: where Ray Train may leave its own files; on a disk that all machines share.
        train: the function that trains on one machine, as ``module:name``; the worker's is in the same module and is
            called ``run_worker``.
    """

    def __init__(self, resources: Resources, folder: Path, train: str) -> None:
        self._resources = resources
        self._folder = folder
        self._train = f"{train.partition(':')[0]}:run_worker"

    def __call__(self, task: TrialTask, hooks: Hooks = NO_HOOKS) -> TrialRecord:
        """Train one trial. ``hooks.should_stop`` is asked by the main worker, so it goes through pickle.

        Raises:
            TrialFailedError: what a worker raised, or workers were lost again and again without a new checkpoint.
            TrialStopped: a checkpoint was written on request.
        """
        from dnw_core.training.workers.restarts import train_with_restarts

        def train(hooks: Hooks, resumed: int) -> TrialRecord:
            # a new name each time: Ray Train takes one that it knows for a run to be restored
            epochs = self._folder / f"{uuid.uuid4().hex}.epochs"
            try:
                end = self._run_group(WorkerJob(task, hooks.should_stop, self._train, epochs, resumed), hooks.on_epoch)
            except WorkerGroupError as error:
                raise WorkersLostError(_what_was_lost(error.failures)) from None
            if end == _STOPPED:
                raise TrialStopped
            return read_record(task.folder / RECORD_FILE)

        return train_with_restarts(task, hooks, train)

    def _run_group(self, job: WorkerJob, on_epoch: Callable[[EpochMetrics], object]) -> str:
        """Run one group of workers to its end, reporting epochs on the way; return how it ended."""
        from ray.train import RunConfig, ScalingConfig, WorkerGroupError
        from ray.train.torch import TorchConfig, TorchTrainer

        share = self._resources.share
        self._folder.mkdir(parents=True, exist_ok=True)
        epochs = MetricsFile(job.epochs)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if share.gpus else "gloo", timeout_s=_COLLECTIVE_SECONDS),
            scaling_config=ScalingConfig(
                num_workers=self._resources.workers,
                use_gpu=bool(share.gpus),
                resources_per_worker={"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {}),
            ),
            run_config=RunConfig(name=job.epochs.stem, storage_path=str(self._folder)),
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


def train_worker(config: dict[str, WorkerJob]) -> str:
    """Train as one of Ray Train's workers; return how the trial ended."""
    job = config["job"]
    execution = job.task.execution
    prepare_process(execution)
    import ray.train
    import ray.train.torch
    import torch

    from dnw_core.training import WorkerGroup

    if execution.device.startswith("cuda"):
        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)
        execution = execution.model_copy(update={"device": str(device)})
    group = WorkerGroup.joined(torch.device(execution.device))
    try:
        on_epoch = MetricsFile(job.epochs).add if group.is_main else NO_HOOKS.on_epoch
        task, hooks = replace(job.task, execution=execution), Hooks(on_epoch, job.should_stop)
        load_function(job.train)(task, group, hooks, resumed=job.resumed)
    except TrialStopped:
        return _STOPPED
    return _DONE


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
