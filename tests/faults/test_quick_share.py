"""The quick share of the faults, in seconds: stub trials, or one small real one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

from support.faults.command import command
from support.faults.processes import wait_for
from support.stubs.specs import spec
from support.stubs.tiny_trials import small_recipe
from support.stubs.training import run_trial

from dnw_core.config.base import fingerprint
from dnw_core.errors import UserError
from dnw_core.task import Hooks
from pipelines.driver.lock import driver_lock
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from pipelines.trial.run import run_spec


def test_two_drivers_three_times(tmp_path: Path) -> None:
    """Three times two drivers at the same moment: each time one trains and the other is told who does."""
    fork = multiprocessing.get_context("fork")
    for attempt in range(3):
        results = tmp_path / str(attempt)
        together, said = fork.Barrier(2), fork.Queue()
        drivers = [fork.Process(target=_drive, args=(results, together, said)) for _ in range(2)]
        for driver in drivers:
            driver.start()
        answers = dict(said.get(timeout=60) for _ in drivers)
        for driver in drivers:
            driver.join()
        worked = [process for process, answer in answers.items() if answer == "worked"]
        assert len(worked) == 1, answers
        (refused,) = (answer for answer in answers.values() if answer != "worked")
        assert f"is in use by process {worked[0]} on " in refused
        one = spec(results)
        store = Store.open(results)
        assert store.state(one).kind == "done"
        assert (store.folder(one) / "log.txt").read_text().count(" begins ") == 1


def _drive(results: Path, together: Barrier, said: multiprocessing.Queue[tuple[int, str]]) -> None:
    results.mkdir(exist_ok=True)
    together.wait()
    try:
        with driver_lock(results):
            Store.open(results, create=True)
            run_spec(spec(results), train=run_trial)
            together.wait()  # until the other one has been refused
            said.put((os.getpid(), "worked"))
    except UserError as error:
        said.put((os.getpid(), str(error)))
        together.wait()


@contextlib.contextmanager
def _small_files_only(most: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: what a full disk is to whoever writes one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_at_the_second_checkpoint(tmp_path: Path) -> None:
    """The checkpoint that cannot be written fails the trial with that reason and leaves the one before it whole: with
    room again, the trial goes on from there and is the undisturbed one."""
    recipe = small_recipe(epochs=3)
    whole, harmed = (
        spec(tmp_path / name).model_copy(update={"recipe": recipe, "fingerprint": fingerprint(recipe)})
        for name in ("whole", "harmed")
    )
    execution = whole.execution.model_copy(update={"checkpoint_minutes": 0.0})
    whole, harmed = (one.model_copy(update={"execution": execution}) for one in (whole, harmed))
    undisturbed = run_spec(_in_store(whole))
    with contextlib.ExitStack() as full:
        record = run_spec(_in_store(harmed), Hooks(lambda line: full.enter_context(_small_files_only(20_000))))
    assert record is not None
    assert record.status == "failed"
    assert "File too large" in str(record.reason)

    store = Store.open(harmed.results_dir)
    assert store.state(harmed).epochs_done == 1
    store.clear_failure(harmed)
    record = run_spec(harmed)
    assert record is not None
    assert undisturbed is not None
    assert record.last == undisturbed.last
    log = (store.folder(harmed) / "log.txt").read_text()
    assert [log.count(f"epoch {epoch}:") for epoch in range(3)] == [1, 2, 1]


def _in_store(one: TrialSpec) -> TrialSpec:
    Store.open(one.results_dir, create=True)
    return one


def test_ctrl_c_while_planning(tmp_path: Path) -> None:
    """From the first moment that the command is ours: exit code 130, the way to go on, no traceback."""
    with command(tmp_path / "results") as run:
        wait_for("the plan to begin", lambda: run.ended or (tmp_path / "results" / "store.json").exists())
        run.interrupt()
        assert run.wait() == 130, run.said
        assert "To resume: python pipelines/reproduce_all.py" in run.said
        assert "Traceback" not in run.said, run.said
        assert run.left_behind() == []
