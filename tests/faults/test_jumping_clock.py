"""The clock of the machine jumps by hours, forwards and backwards, while a run lasts."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from command import EPOCHS, command
from processes import wait_for
from proof import check_nothing_is_left_to_do, check_results, finished

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
SHIM = Path(__file__).parent / "jumping_clock"
HOUR = 3600


def test_the_clock_jumps(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """Nothing but the times that are shown changes: the run is not given up, stopped or repeated, and a run begun at
    one time is gone on with at an earlier one."""
    results = tmp_path / "results"
    clock = tmp_path / "clock"
    path = os.pathsep.join(filter(None, (str(SHIM), os.environ.get("PYTHONPATH"))))
    variables = {"DNW_FAULT_CLOCK": str(clock), "PYTHONPATH": path}
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


def _set(clock: Path, seconds: int) -> None:
    new = clock.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(clock)


def _progress(results: Path) -> int:
    """Return a number that grows as trials train."""
    return sum(path.stat().st_size for path in (results / "trials").glob("*/*/*/*/log.txt") if path.exists())
