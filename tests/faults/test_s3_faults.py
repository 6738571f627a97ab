"""Results in a bucket through every fault: trials and drivers killed, the server away, two drivers at once."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults.command import EPOCHS, TRIALS, command, complete
from support.faults.in_a_bucket import EPOCHS_LOST, finished_in, plain_copy
from support.faults.processes import kill, kill_marked, wait_for
from support.faults.proof import check_results
from support.services import s3_server

from pipelines.storage.bucket.client import Stored

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

TRIAL_KILLS = 20
DRIVER_KILLS = 10
_MOST_A_RUN = 10  # so that a run comes to its end, too
PLACE = "s3://results/run"


@pytest.fixture
def s3() -> Iterator[s3_server.S3]:
    """A server of its own for each test."""
    with s3_server.serve() as server:
        yield server


@pytest.fixture
def variables(s3: s3_server.S3, tmp_path: Path) -> dict[str, str]:
    """The environment of the commands: the server, and a place for the copy."""
    return {**s3.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_trials_killed(
    s3: s3_server.S3, variables: dict[str, str], tmp_path: Path, reference: Path, chance: random.Random
) -> None:
    """20 SIGKILLs of training processes, as many runs as it takes: every trial goes on from what was brought home,
    none is trained twice, and the results are the undisturbed run's."""
    kills = runs = again = 0
    while kills < TRIAL_KILLS:
        place = f"run-{runs}"
        killed = 0
        with command(f"s3://results/{place}", "--max-failures", "100", variables=variables) as run:
            while killed < min(_MOST_A_RUN, TRIAL_KILLS - kills) and not run.ended:
                wait_for("a trial to kill", lambda run=run: run.ended or run.at_work())
                time.sleep(chance.uniform(0.5, 2.5))
                found = sorted(run.at_work())
                killed += kill(chance.choice(found)) if found else 0
            assert run.wait() == 0, run.said
        assert killed, "a run in which nothing was killed proves nothing"
        again += check_results(
            plain_copy(s3.bucket(place), tmp_path / f"plain-{runs}"), reference, killed * EPOCHS_LOST
        )
        kills += killed
        runs += 1
    print(f"{kills} trials killed in {runs} runs, {again} epochs of {runs * TRIALS * EPOCHS} trained again")
    before = s3.bucket(place).list("trials/")
    assert f"{TRIALS} done, 0 to be trained" in complete(f"s3://results/{place}", variables=variables)
    assert s3.bucket(place).list("trials/") == before


def test_driver_killed(
    s3: s3_server.S3, variables: dict[str, str], tmp_path: Path, reference: Path, chance: random.Random
) -> None:
    """10 SIGKILLs of the driver and all its processes, every fifth time with the copy deleted; the same command goes
    on each time, and what was finished stays as it was."""
    kills = runs = again = 0
    while kills < DRIVER_KILLS:
        place = f"run-{runs}"
        killed = 0
        done: dict[str, Stored] = {}
        while kills + killed < DRIVER_KILLS and len(done) < TRIALS:
            with command(f"s3://results/{place}", variables=variables) as run:
                run.wait_for_training()
                time.sleep(chance.uniform(0, 4))
                if run.ended:
                    break
                kill(run.process.pid)
                kill_marked(run.mark)
            killed += 1
            if killed % 5 == 0:
                (tmp_path / "cache").rename(tmp_path / f"gone-{runs}-{killed}")
            before, done = done, finished_in(s3.bucket(place))
            assert done.items() >= before.items(), "a finished trial was changed or lost"
        complete(f"s3://results/{place}", variables=variables)
        again += check_results(
            plain_copy(s3.bucket(place), tmp_path / f"plain-{runs}"), reference, killed * EPOCHS_LOST
        )
        kills += killed
        runs += 1
    print(f"the driver was killed {kills} times in {runs} runs, {again} epochs trained again")


def test_server_away(s3: s3_server.S3, variables: dict[str, str], tmp_path: Path, reference: Path) -> None:
    """The server is away for ten seconds while trials train and end: they wait for it, and nothing is lost."""
    with command(PLACE, variables=variables) as run:
        run.wait_for_training()
        s3.line.cut()
        time.sleep(10)
        s3.line.mend()
        assert run.wait() == 0, run.said
    check_results(plain_copy(s3.bucket("run"), tmp_path / "plain"), reference, 0)


def test_two_drivers(s3: s3_server.S3, variables: dict[str, str], tmp_path: Path, reference: Path) -> None:
    """A driver elsewhere (with a copy of its own) is told who is at work; --stop from there stops the first one."""
    elsewhere = {**variables, "XDG_CACHE_HOME": str(tmp_path / "elsewhere")}
    with command(PLACE, variables=variables) as run, contextlib.ExitStack() as stoppers:
        with run.held():
            with command(PLACE, variables=elsewhere) as second:
                assert second.wait() == 2, second.said
                assert f"is in use by process {run.process.pid} on " in second.said
            with command(PLACE, "--status", variables=elsewhere) as looker:
                assert looker.wait() == 0, looker.said
                assert f"at work: process {run.process.pid} on " in looker.said
            stopper = stoppers.enter_context(command(PLACE, "--stop", variables=elsewhere))
            run.wait_until_it_says("stopping: the trials write their checkpoints")
        assert stopper.wait() == 0, stopper.said
        assert run.wait() == 128 + signal.SIGINT, run.said
    complete(PLACE, variables=elsewhere)
    check_results(plain_copy(s3.bucket("run"), tmp_path / "plain"), reference, EPOCHS_LOST)
