"""What the end of a trial's process means, and what follows from it. No Ray is started here."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.stubs.specs import spec

from pipelines.cluster import preemption, process_registry, visibility
from pipelines.cluster.preemption import Preempted, ShouldStop, training_marker
from pipelines.cluster.process_registry import trial_processes
from pipelines.cluster.visibility import MAX_SENT_BACK, VisibilityProbe
from pipelines.driver.display import Display
from pipelines.driver.progress import Progress
from pipelines.driver.stopping import stop_request
from pipelines.schedule.failures import end_of_process
from pipelines.schedule.queue import TrialQueue
from pipelines.spec import Resources, TrialSpec
from pipelines.storage.staging import NodeUnusableError
from pipelines.store.folder import Store
from pipelines.trial.gpu_share import (
    GpuShareTooSmallError,
    doubled,
    format_share,
    is_out_of_gpu_memory,
    share_for,
    trials_that_fit,
)
from pipelines.trial.run import run_spec

GIB = 2**30
# as Ray 2.60 said it when it was done to a worker or its raylet
KILLED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called"
)
TERMINATED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM."
)
NODE_LOST = (
    "The actor died because its node has died. Node Id: 864a0fa0\nthe actor's node was terminated unexpectedly: health "
    "check failed due to missing too many heartbeats"
)
RAY_KILL = "The actor is dead because it was killed by `ray.kill`."


def _died(text: str, **how: Any) -> BaseException:
    from ray.exceptions import RayActorError

    return RayActorError(error_msg=text, **how)


def _raised(error: Exception) -> BaseException:
    """What Ray makes of an error that a trial raises."""
    from ray.exceptions import RayTaskError

    wrapped: BaseException = RayTaskError("train", f"Traceback\n{error}", error).as_instanceof_cause()
    return wrapped


def test_only_what_a_process_did_itself_counts() -> None:
    """A process that was killed or crashed counts, and what it raised; a lost machine, SIGTERM, Ray's mishaps not."""
    from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError, RuntimeEnvSetupError

    ends = {
        "killed": end_of_process(_died(KILLED)),
        "memory": end_of_process(OutOfMemoryError("Task was killed due to the node running low on memory.")),
        "unknown": end_of_process(None),
        "raised": end_of_process(_raised(OSError("No space left on device"))),
        "code": end_of_process(RuntimeEnvSetupError("no such package")),
        "node": end_of_process(_died(NODE_LOST)),
        "node died": end_of_process(NodeDiedError("the node is gone")),
        "drained": end_of_process(_died(NODE_LOST, preempted=True)),
        "ray.kill": end_of_process(_died(RAY_KILL)),
        "unreachable": end_of_process(ActorUnavailableError("connection reset", None)),
        "sigterm": end_of_process(_died(TERMINATED)),
        "left": end_of_process(_raised(Preempted("it was asked to leave (SIGTERM)"))),
        "share": end_of_process(_raised(GpuShareTooSmallError("CUDA out of memory"))),
        "unfit": end_of_process(_raised(NodeUnusableError("node x: it does not see the results folder"))),
    }
    counted = {name for name, end in ends.items() if end.counts}
    assert counted == {"killed", "memory", "unknown", "raised", "code"}
    assert "ran out of memory" in ends["memory"].reason
    assert ends["raised"].reason.endswith("No space left on device")
    assert ends["left"].reason == ends["sigterm"].reason == "it was asked to leave (SIGTERM)"
    assert [ends[name].kind for name in ("node", "drained", "share", "unfit")] == [
        "lost",
        "preempted",
        "small share",
        "unusable node",
    ]


class _Run:
    """A TuneCallback with its queue, told of ends as Tune tells it."""

    def __init__(self, folder: Path, specs: list[TrialSpec], max_failures: int, stop: Any = None) -> None:
        from pipelines.schedule.callbacks import TuneCallback
        from pipelines.schedule.trainable import KEY

        self.queue = TrialQueue(specs, lambda: (8.0, 8.0))
        self.given_up: list[tuple[str, str]] = []
        self.callback = TuneCallback(
            Progress(specs),
            Display(),
            queue=self.queue,
            max_failures=max_failures,
            give_up=lambda one, reason: self.given_up.append((one.row, reason)),
            stop=stop,
        )
        self.file, self.key, self.trials = folder / "error.pkl", KEY, 0

    def end(self, error: BaseException) -> TrialSpec | None:
        """Hand a trial out, end its process so; return what is handed out then."""
        one = self.queue.next()
        assert one is not None
        self.file.write_bytes(pickle.dumps(error))
        self.trials += 1
        trial = SimpleNamespace(
            trial_id=str(self.trials), config={self.key: one.model_dump_json()}, pickled_error_file=str(self.file)
        )
        self.callback.on_trial_start(0, [], trial)
        self.callback.on_trial_error(0, [], trial)
        again = self.queue.next()
        if again is not None:
            self.queue.requeue(again.trial_id)
        return again


def test_losses_never_use_up_a_trials_attempts(tmp_path: Path) -> None:
    """Ten lost machines and pre-emptions count nothing; the third death of two that are allowed is the end."""
    one = spec(tmp_path)
    run = _Run(tmp_path, [one], max_failures=2)
    for _ in range(5):
        assert run.end(_died(NODE_LOST)) is not None
        assert run.end(_died(TERMINATED)) is not None
    assert run.end(_died(KILLED)) is not None
    assert run.end(_died(KILLED)) is not None
    assert run.given_up == []
    assert run.end(_died(KILLED)) is None
    assert run.given_up == [("ok", "its process died (killed, crashed, or out of memory) (3 attempts)")]
    assert run.callback.errors == {one.trial_id: run.given_up[0][1]}
    assert run.queue.empty


def test_a_share_that_was_too_small_is_doubled_up_to_a_whole_gpu(tmp_path: Path) -> None:
    """A quarter becomes a half, a half a whole; a third twice that and then a whole one."""
    run = _Run(tmp_path, [spec(tmp_path).model_copy(update={"resources": Resources(gpus=0.25)})], max_failures=0)
    found = [run.end(GpuShareTooSmallError("CUDA out of memory")) for _ in range(2)]
    assert [one.resources.gpus for one in found if one is not None] == [0.5, 1.0]
    assert doubled(doubled(Resources(gpus=1 / 3))).gpus == 1.0
    assert [format_share(gpus) for gpus in (0.25, share_for(7), 2 / 3, 1.0)] == [
        "1/4 of a GPU",
        "1/7 of a GPU",
        "0.666667 of a GPU",
        "a whole GPU",
    ]


def test_machines_that_send_trials_back_end_the_run_at_last(tmp_path: Path) -> None:
    """A few trials that come back go on elsewhere; many of them are no accident, and all trials are asked to stop."""
    with stop_request(tmp_path) as stop:
        run = _Run(tmp_path, [spec(tmp_path)], max_failures=0, stop=stop)
        for _ in range(MAX_SENT_BACK - 1):
            assert run.end(NodeUnusableError("node x: it does not see the results folder")) is not None
        assert not stop.requested
        run.end(NodeUnusableError("node x: it does not see the results folder"))
        assert stop.requested


def test_how_many_trials_fit_on_a_gpu() -> None:
    """By hand: memory with a tenth of it free and CUDA's own for each process, cores, and never more than eight."""
    # 80 GiB * 0.9 = 72 GiB; each takes 9 GiB + 600 MiB: 7.5 times
    assert trials_that_fit(9 * GIB, 80 * GIB, cores=64, cores_a_trial=4) == 7
    assert trials_that_fit(9 * GIB, 80 * GIB, cores=16, cores_a_trial=4) == 4
    assert trials_that_fit(GIB, 80 * GIB, cores=64, cores_a_trial=1) == 8
    assert trials_that_fit(70 * GIB, 80 * GIB, cores=64, cores_a_trial=1) == 1
    assert trials_that_fit(200 * GIB, 80 * GIB, cores=64, cores_a_trial=1) == 1
    assert trials_that_fit(GIB, 80 * GIB, cores=1, cores_a_trial=4) == 1
    assert [share_for(trials) for trials in (1, 2, 3, 6, 7)] == [1.0, 0.5, 0.3333, 0.1666, 0.1428]


def test_which_errors_mean_that_a_gpu_is_full() -> None:
    """torch's own error and CUDA's words in a RuntimeError; not a CPU without memory, nor any other error."""
    assert is_out_of_gpu_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_gpu_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_gpu_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert not is_out_of_gpu_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"))
    assert not is_out_of_gpu_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_out_of_gpu_memory(MemoryError())


def test_a_full_gpu_is_a_failure_only_on_a_whole_one(tmp_path: Path) -> None:
    """On a share nothing is recorded, so that the trial can go on with a larger one; on a whole GPU what helps is."""
    store = Store.open(tmp_path, create=True)

    def full(*args: Any, **more: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    share, whole = (
        spec(tmp_path, row).model_copy(update={"resources": Resources(gpus=gpus)})
        for row, gpus in {"share": 0.5, "whole": 1.0}.items()
    )
    with pytest.raises(GpuShareTooSmallError, match="CUDA out of memory"):
        run_spec(share, train=full)
    assert store.state(share).kind != "failed"
    record = run_spec(whole, train=full)
    assert record is not None
    assert record.reason == (
        "out of memory on the GPU: a whole GPU has too little memory for it; a GPU with more memory would do"
    )


def test_processes_that_train_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while they train, only those that live, and only in a folder that is ours alone."""
    folder = tmp_path / "trials"
    monkeypatch.setattr(process_registry, "trials_folder", lambda: folder)
    assert trial_processes() == []
    with training_marker():
        assert trial_processes() == [os.getpid()]
        (folder / "1").write_text("0")  # lives, but began at another time
        (folder / "999999999").write_text("5")
        (folder / "note").write_text("5")
        assert trial_processes() == [os.getpid()]
        folder.chmod(0o755)
        assert trial_processes() == []
        folder.chmod(0o700)
    assert trial_processes() == []


def test_leaving_goes_along_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says yes when all trials stop or this process must go, and a copy asks of the process that it came to."""
    monkeypatch.setattr(preemption, "preemption_reason", lambda: None)
    assert not ShouldStop(bool)()
    monkeypatch.setattr(preemption, "preemption_reason", lambda: "its machine is about to go")
    assert pickle.loads(pickle.dumps(ShouldStop(bool)))()


def test_a_machine_that_lacks_something_sends_the_trial_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another results folder, or missing data: the machine is named. A machine that sees both trains."""
    monkeypatch.setattr(visibility, "WAIT_SECONDS", 0.0)
    one = spec(tmp_path)
    folder = tmp_path / ".run" / "x"
    folder.mkdir(parents=True)
    seen = VisibilityProbe(folder)
    with pytest.raises(NodeUnusableError, match=f"node .*: it does not see the results folder {tmp_path}"):
        seen.check(one)
    VisibilityProbe(folder).write_marker()  # of another driver: a folder of that name, and not the same
    with pytest.raises(NodeUnusableError, match="it does not see the results folder"):
        seen.check(one)
    seen.write_marker()
    pickle.loads(pickle.dumps(seen)).check(one)
    data = one.recipe.data.model_copy(update={"dataset": "cifar10"})
    away = one.execution.model_copy(update={"data_dir": str(tmp_path / "nothing"), "cache_dir": tmp_path / "cache"})
    lacking = one.model_copy(update={"recipe": one.recipe.model_copy(update={"data": data}), "execution": away})
    with pytest.raises(NodeUnusableError, match="nothing"):
        seen.check(lacking)
