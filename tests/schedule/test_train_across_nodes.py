"""A trial whose workers are on several machines: its epochs, its stop, and workers that are lost. No Ray is started."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import spec
from support.stubs.store import write_finished
from support.stubs.training import epoch_line

from dnw_core.errors import PeerLostError, TrialFailedError, TrialStopped
from dnw_core.record import EpochMetrics
from dnw_core.task import Hooks, TrialIdentity, TrialTask
from pipelines.driver.stopping import StopWatch
from pipelines.schedule.multi_node import MetricsFile, MultiNodeTrainer, WorkerGroupError, WorkerJob
from pipelines.spec import Resources

HERE = Path("/results")


def test_a_watch_takes_no_time_to_another_machine(tmp_path: Path) -> None:
    """A stop file is seen by a watch that came through pickle, although the other machine's clock is far behind."""
    watch = StopWatch(tmp_path / "stop")
    assert not watch()
    watch._next = time.monotonic() + 1e6
    (tmp_path / "stop").touch()
    assert not watch()
    assert pickle.loads(pickle.dumps(watch))()


def test_epochs_come_through_a_file(tmp_path: Path) -> None:
    """Each epoch is read once, in order, and never half of it."""
    lines = MetricsFile(tmp_path / "epochs")
    assert lines.new() == []
    lines.add(epoch_line(0, 0))
    with lines.path.open("a") as file:
        file.write('{"epoch": 1,')
    assert [line.epoch for line in lines.new()] == [0]
    assert lines.new() == []
    lines.path.write_text(lines.path.read_text()[: -len('{"epoch": 1,')])
    lines.add(epoch_line(1, 0))
    assert [line.epoch for line in lines.new()] == [1]


class _Groups(MultiNodeTrainer):
    """Runs no workers: each group ends as the list says, a string, an error, or the checkpoint that it leaves."""

    def __init__(self, ends: list[Any]) -> None:
        super().__init__(Resources(cpus=2, workers=2, across_nodes=True), HERE, "module:run_trial")
        self.ends = ends
        self.resumed: list[int] = []

    def _run_group(self, job: WorkerJob, on_epoch: Callable[[EpochMetrics], object]) -> str:
        self.resumed.append(job.resumed)
        for epoch in range(len(self.resumed) + 1):
            on_epoch(epoch_line(epoch, 0))
        end = self.ends.pop(0)
        if isinstance(end, bytes):
            (job.task.folder / "checkpoint.pt").write_bytes(end)
            end = PeerLostError("gone")
        if isinstance(end, str):
            return end
        raise WorkerGroupError(end if isinstance(end, dict) else {0: end})


def _train(groups: _Groups, folder: Path, **more: Any) -> list[int]:
    """Train; return the epochs that were told."""
    told: list[int] = []
    one = spec(folder)
    names = TrialIdentity(table="stub", row="row", scale="smoke", fingerprint=one.fingerprint)
    task = TrialTask(one.recipe, 0, one.execution, folder, names)
    groups(task, Hooks(lambda line: told.append(line.epoch), **more))
    return told


def test_lost_workers_start_again_and_failures_do_not(tmp_path: Path) -> None:
    """A loss is followed by a new group, three times without a new checkpoint; what a worker raised ends the trial."""
    died = type("ActorDiedError", (Exception,), {"__module__": "ray.exceptions"})
    write_finished(tmp_path, spec(tmp_path))
    lost: dict[int, Exception] = {0: PeerLostError("worker 1 is gone"), 1: died()}
    groups = _Groups([lost, lost, b"one", lost, lost, "done"])
    assert _train(groups, tmp_path) == [0, 1, 2, 3, 4, 5, 6]  # once each, although groups go over them again
    assert groups.resumed == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "log.txt").read_text("utf-8").count("worker 1 was lost") == 4

    with pytest.raises(TrialFailedError, match=r"worker 1 was lost .* the 4th time without a new checkpoint"):
        _train(_Groups([b"two", lost, lost, lost, "done"]), tmp_path)
    groups = _Groups([{0: PeerLostError("worker 1 is gone"), 1: TrialFailedError("the loss is nan")}, "done"])
    with pytest.raises(TrialFailedError, match="the loss is nan"):
        _train(groups, tmp_path)
    with pytest.raises(KeyError):
        _train(_Groups([{0: KeyError("a bug")}, "done"]), tmp_path)
    assert groups.ends == ["done"], "a failure was repeated"
    with pytest.raises(TrialStopped):
        _train(_Groups(["stopped"]), tmp_path)
    with pytest.raises(TrialStopped):
        _train(_Groups([lost, "done"]), tmp_path, should_stop=lambda: True)
