"""The clock of the machine jumps by hours, forwards and backwards, while a run lasts."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from support.faults.command import EPOCHS, command
from support.faults.in_a_bucket import plain_copy
from support.faults.processes import wait_for
from support.faults.proof import check_nothing_is_left_to_do, check_results, finished
from support.services import s3_server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
SHIM = Path(__file__).parent / "jumping_clock"
HOUR = 3600
PLACE = "s3://results/run"


def test_the_clock_jumps(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """Nothing but the times that are shown changes: the run is not given up, stopped or repeated, and a run begun at
    one time is gone on with at an earlier one."""
    results = tmp_path / "results"
    clock = tmp_path / "clock"
    variables = _jumping(clock)
    _set(clock, 0)
    with command(results, variables=variables) as run:
        jumps = 0
        while not run.ended:
            progress = _progress(results)
            wait_for("an epoch or the end", lambda before=progress: run.ended or _progress(results) != before)
            _set(clock, chance.randint(-30 * 24 * HOUR, 30 * 24 * HOUR))
            jumps += 1
            if jumps == EPOCHS:
                run.interrupt()  # it goes on below, a year earlier
        assert run.wait() == 130, run.said
        assert "Traceback" not in run.said, run.said
    _set(clock, -365 * 24 * HOUR)
    with command(results, variables=variables) as run:
        run.wait_until_it_says("4/4]")
        _set(clock, 365 * 24 * HOUR)
        assert run.wait() == 0, run.said
    check_results(results, reference, 1)
    check_nothing_is_left_to_do(results, variables=variables)
    years = {(folder / "log.txt").read_text()[:4] for folder in finished(results).values()}
    years |= {(folder / "log.txt").read_text().splitlines()[-1][:4] for folder in finished(results).values()}
    assert len(years) > 1, "the clock of the trials did not jump"


def test_the_clock_jumps_with_a_bucket(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """A lease, a heartbeat and uploads depend on times, too: twice a second the clock is another one by up to 30 days,
    and another driver is still refused, by a bucket's time alone."""
    clock = tmp_path / "clock"
    with s3_server.serve() as s3:
        variables = {**_jumping(clock), **s3.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        _set(clock, 0)
        with command(PLACE, variables=variables) as run:
            with run.held():
                for days in (-30, 30):
                    _set(clock, days * 24 * HOUR)
                    elsewhere = variables | {"XDG_CACHE_HOME": str(tmp_path / f"elsewhere{days}")}
                    with command(PLACE, variables=elsewhere) as second:
                        assert second.wait() == 2, second.said
                        assert f"is in use by process {run.process.pid} on " in second.said
            while not run.ended:
                _set(clock, chance.randint(-30 * 24 * HOUR, 30 * 24 * HOUR))
                time.sleep(0.5)
            assert run.wait() == 0, run.said
            assert "Traceback" not in run.said, run.said
        check_results(plain_copy(s3.bucket("run"), tmp_path / "plain"), reference, 0)


def _jumping(clock: Path) -> dict[str, str]:
    """Return the variables by which all Python processes have that clock."""
    path = os.pathsep.join(filter(None, (str(SHIM), os.environ.get("PYTHONPATH"))))
    return {"DNW_FAULT_CLOCK": str(clock), "PYTHONPATH": path}


def _set(clock: Path, seconds: int) -> None:
    new = clock.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(clock)


def _progress(results: Path) -> int:
    """Return a number that grows as trials train."""
    return sum(path.stat().st_size for path in (results / "trials").glob("*/*/*/*/log.txt") if path.exists())
