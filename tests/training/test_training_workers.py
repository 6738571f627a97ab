"""A trial on two worker processes: the result of one, to the bit whatever is killed on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stubs.tiny_trials import small_recipe, train
from test_training_resume import assert_same_result

from dnw_core.config.recipe import Recipe
from dnw_core.errors import TrialFailedError, TrialStopped, UserError
from dnw_core.record import LOG_FILE, EpochMetrics, TrialRecord

SHARED = {"batch_norm_images": 32, "epochs": 20, "optimiser": {"learning_rate": 0.01}}  # 64 images a batch: two groups


def recipe(**changes: Any) -> Recipe:
    """A rule that draws in every step, two groups a batch."""
    return small_recipe("tiny-discrete", "targeted-dropout", **{**SHARED, **changes})


def log_of(folder: Path) -> str:
    """The trial's log so far, or nothing."""
    path = folder / LOG_FILE
    return path.read_text("utf-8") if path.exists() else ""


def processes(folder: Path) -> list[int]:
    """The workers that the log named last."""
    found = re.findall(r"workers: processes (.*)", log_of(folder))
    return [int(process) for process in found[-1].split(", ")] if found else []


def runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text("utf-8").rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def wait_for(what: Callable[[], bool]) -> None:
    """Wait, a minute at most."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrialRecord, list[EpochMetrics]]:
    """The undisturbed trial: folder, record and reported epochs."""
    folder = tmp_path_factory.mktemp("whole")
    lines: list[EpochMetrics] = []
    return folder, train(recipe(), folder, workers=2, on_epoch=lines.append), lines


def test_two_workers_make_the_trial_of_one(whole: tuple[Path, TrialRecord, list[EpochMetrics]], tmp_path: Path) -> None:
    """The same losses and scores, closely; every epoch reported once; the record says how many workers there were.

    Compared over the first 12 steps: later a difference in the last bit decides between two edges, after 13 steps on
    one kind of processor, after 18 on another (the weights themselves are compared in ``test_training_groups``).
    """
    folder, record, lines = whole
    expected: list[EpochMetrics] = []
    alone = train(recipe(epochs=4), tmp_path, on_epoch=expected.append)
    for line, one in zip(lines, expected, strict=False):
        assert (line.train_loss, line.test_loss) == pytest.approx((one.train_loss, one.test_loss), rel=1e-5)
        assert (line.train_accuracy, line.test_accuracy) == (one.train_accuracy, one.test_accuracy)
        assert (line.learning_rate, line.edges, line.live_edges) == (one.learning_rate, one.edges, one.live_edges)
    assert [line.epoch for line in lines] == list(range(20))
    assert record.provenance is not None
    assert alone.provenance is not None
    assert (record.provenance.workers, alone.provenance.workers) == (2, 1)
    assert record.provenance.resumed == 0
    assert not any(runs(process) for process in processes(folder))


@pytest.mark.slow
def test_a_killed_worker_and_a_stop_cost_no_bit(
    whole: tuple[Path, TrialRecord, list[EpochMetrics]], tmp_path: Path
) -> None:
    """Worker 1 is killed with SIGKILL, later the trial is told to stop, then it is resumed with another number.

    Each time it goes on from the last checkpoint, on the two workers that it began with.
    """
    seen: list[int] = []
    held: list[int] = []

    def disturb(line: EpochMetrics) -> None:
        seen.append(line.epoch)
        starts = log_of(tmp_path).count("workers: processes")
        if starts == 1 and line.epoch == 1:
            os.kill(processes(tmp_path)[1], signal.SIGKILL)
        if starts == 2 and not held:  # so that the trial is not over before it hears of the stop
            held.append(processes(tmp_path)[1])
            os.kill(held[0], signal.SIGSTOP)

    def should_stop() -> bool:
        if held:
            threading.Timer(1.0, os.kill, (held[0], signal.SIGCONT)).start()
        return bool(held)

    with pytest.raises(TrialStopped):
        train(recipe(), tmp_path, workers=2, checkpoint_minutes=0.0, on_epoch=disturb, should_stop=should_stop)
    assert seen == sorted(set(seen)), "an epoch was reported twice"
    assert not any(runs(process) for process in processes(tmp_path))
    record = train(recipe(), tmp_path, workers=1, on_epoch=disturb)
    assert record.provenance is not None
    assert record.provenance.workers == 2
    assert record.provenance.resumed == 2
    log = log_of(tmp_path)
    assert re.search(r"worker 1 was killed by SIGKILL; all 2 workers start again from epoch [1-9]", log)
    assert "stopped on request" in log
    assert_same_result(whole[0], tmp_path)
    assert seen == list(range(20))


def test_what_a_worker_raises_is_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is not finite is the trial's failure, as what it is; nothing is started again.

    The workers meet in a folder whose name would end an address.
    """
    odd = tmp_path / "odd" / "t?%2F#a"
    odd.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    with pytest.raises(TrialFailedError, match=r"the training loss is not finite \(epoch 0, by step [1-3]\)"):
        train(recipe(optimiser={"learning_rate": 1e30}), tmp_path, workers=2)
    assert not (tmp_path / "trial.json").exists()
    assert log_of(tmp_path).count("workers: processes") == 1
    assert not any(runs(process) for process in processes(tmp_path))
    assert [path.name for path in odd.parent.iterdir()] == [odd.name]


ORPHANED = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
from pathlib import Path
from test_training_workers import recipe
from support.stubs.tiny_trials import train
if __name__ == "__main__":
    train(recipe(epochs=100000), Path({folder!r}), workers=2)
"""


@pytest.mark.slow
def test_workers_end_with_the_trials_process(tmp_path: Path) -> None:
    """Its process is killed with SIGKILL: no worker outlives it, not even one that waits in a sum for another.

    The second worker is held, so that the first can notice nothing but its pipe.
    """
    code = ORPHANED.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    workers: list[int] = []
    try:
        wait_for(lambda: "epoch 0:" in log_of(tmp_path))
        workers = processes(tmp_path)
        os.kill(workers[1], signal.SIGSTOP)
        assert len(workers) == 2
        assert all(runs(worker) for worker in workers)
        process.kill()
        wait_for(lambda: not runs(workers[0]))
        os.kill(workers[1], signal.SIGCONT)
        wait_for(lambda: not runs(workers[1]))
    finally:
        process.kill()
        process.wait()
        for worker in filter(runs, workers):
            os.kill(worker, signal.SIGKILL)


def test_more_workers_than_groups_is_the_users_mistake(tmp_path: Path) -> None:
    """Before anything is started or written."""
    with pytest.raises(UserError, match="workers is 2, but the recipe takes batch statistics over the whole batch"):
        train(recipe(batch_norm_images=None), tmp_path / "trial", workers=2)
    assert not (tmp_path / "trial").exists()


STUB = """
import os, signal, sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
pipe.recv_bytes()
with open(os.environ["STARTS"], "a") as file:
    file.write("x")
{then}
"""


def stub(then: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a process that does this in the workers' place; return the file that counts its starts."""
    (folder / "stub_worker.py").write_text(STUB.format(then=then), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("dnw_core.training.workers.handle.MODULE", "stub_worker")
    monkeypatch.setenv("STARTS", str(folder / "starts"))
    return folder / "starts"


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "worker [01] was killed by SIGKILL, the 4th time without",
        ),
        ("sys.exit(7)", r"worker [01] ended without a result \(exit status 7\), the 4th time without"),
    ],
)
def test_workers_lost_again_and_again(then: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three restarts without a new checkpoint, then the trial has failed, and says of what."""
    starts = stub(then, tmp_path, monkeypatch)
    with pytest.raises(TrialFailedError, match=message):
        train(recipe(), tmp_path / "trial", workers=2)
    assert 4 <= len(starts.read_text()) <= 8  # four times two; the second of a pair may have been too late to count
    assert log_of(tmp_path / "trial").count("all 2 workers start again from epoch 0, step 0") == 3


def test_no_restart_once_a_stop_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies while the trial is told to stop ends it there."""
    stub("os.kill(os.getpid(), signal.SIGKILL)", tmp_path, monkeypatch)
    with pytest.raises(TrialStopped):
        train(recipe(), tmp_path / "trial", workers=2, should_stop=lambda: True)
    assert log_of(tmp_path / "trial").count("workers: processes") == 1


def test_an_error_of_the_callers_own_ends_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``should_stop`` raises comes through, and nobody is left behind (Ray ends a trial's thread like that)."""
    stub("import time; time.sleep(600)", tmp_path, monkeypatch)

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "trial", workers=2, should_stop=interrupted)
    assert not any(runs(process) for process in processes(tmp_path / "trial"))
