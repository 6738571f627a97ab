"""Ctrl-C in five phases of a run, and twice in a row; and SIGTERM, as a scheduler sends it."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.faults.command import TRIALS, Command, command, complete
from support.faults.in_a_bucket import finished_in, plain_copy
from support.faults.processes import marked, wait_for
from support.faults.proof import check_nothing_is_left_to_do, check_results, records
from support.services import s3_server

from pipelines.storage.bucket.mirror import mirror_folder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
INTERRUPTED = 130


def _planning(run: Command) -> None:
    wait_for("the plan to begin", lambda: run.ended or (run.folder / "driver.lock").exists())


def _ray_starting(run: Command) -> None:
    wait_for("Ray's head", lambda: run.ended or any("gcs_server" in words for words in marked(run.mark).values()))


def _training(run: Command) -> None:
    run.wait_for_training()


def _last_commit(run: Command) -> None:
    run.wait_until_it_says(f"[{TRIALS}/{TRIALS}]")


def _report(run: Command) -> None:
    # it comes after the tracker, which has a process of its own
    def tracked() -> bool:
        return any("multiprocessing.spawn" in words for words in marked(run.mark).values())

    wait_for("the tracker", lambda: run.ended or tracked())
    wait_for("the report", lambda: run.ended or not tracked())
    assert not (run.folder / "results.parquet").exists(), "too late: the report is written"


_PHASES: tuple[tuple[Callable[[Command], None], float], ...] = (
    (_planning, 0.3),
    (_ray_starting, 2),
    (_training, 4),
    (_last_commit, 0.5),
    (_report, 0),
)


def test_ctrl_c_in_five_phases(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """In each phase: exit code 130, the way to go on, no traceback, no process left; the same command then goes on,
    and its results are the undisturbed run's."""
    results = tmp_path / "results"
    _interrupt_each(chance, lambda: command(results), lambda: records(results))
    complete(results)
    check_results(results, reference, len(_PHASES))
    check_nothing_is_left_to_do(results)


def test_ctrl_c_in_five_phases_with_a_bucket(
    tmp_path: Path, reference: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, with results in a bucket: its lease is given back each time, and checkpoints lie there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = "s3://results/run"
    with s3_server.serve() as s3:
        bucket = s3.bucket("run")
        _interrupt_each(chance, lambda: command(place, folder=mirror_folder(place)), lambda: finished_in(bucket))
        assert not [key for key in bucket.list("drivers/") if "claim-" in key]
        complete(place)
        check_results(plain_copy(bucket, tmp_path / "plain"), reference, len(_PHASES))


def _interrupt_each(
    chance: random.Random,
    start: Callable[[], AbstractContextManager[Command]],
    finished: Callable[[], dict[str, Any]],
) -> None:
    done: dict[str, Any] = {}
    for phase, seconds in _PHASES:
        with start() as run:
            phase(run)
            time.sleep(chance.uniform(0, seconds))
            run.interrupt()
            _check_interrupted(run, INTERRUPTED, phase.__name__)
        assert finished().items() >= done.items(), "a finished trial was changed or lost"
        done = finished()


def test_ctrl_c_twice(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """The second one ends at once, without a traceback or a process left; the same command goes on."""
    results = tmp_path / "results"
    with command(results) as run:
        run.wait_for_training()
        time.sleep(chance.uniform(0, 2))
        run.interrupt()
        time.sleep(chance.uniform(0, 1))
        run.interrupt()
        _check_interrupted(run, INTERRUPTED, "twice")
    complete(results)
    check_results(results, reference, 1)


def test_sigterm(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """SIGTERM for the driver: the trials leave checkpoints, the exit code says interrupted, and it goes on later."""
    results = tmp_path / "results"
    with command(results) as run:
        run.wait_for_training()
        time.sleep(chance.uniform(0, 2))
        run.process.send_signal(signal.SIGTERM)
        _check_interrupted(run, INTERRUPTED, "SIGTERM")
    complete(results)
    check_results(results, reference, 1)


def _check_interrupted(run: Command, code: int, when: str) -> None:
    assert run.wait() == code, f"{when}: {run.said}"
    assert "To resume: python pipelines/reproduce_all.py" in run.said, f"{when}: {run.said}"
    assert "Traceback" not in run.said, f"{when}: {run.said}"
    assert run.left_behind() == [], f"{when}: {run.said}"
