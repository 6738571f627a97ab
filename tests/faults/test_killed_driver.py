"""The driver is killed, at random moments of its life, and the same command is given again."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import pytest
from support.faults.command import TRIALS, command, complete
from support.faults.processes import kill
from support.faults.proof import check_nothing_is_left_to_do, check_results, records

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
KILLS = 10


def test_the_driver_is_killed_ten_times(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """10 SIGKILLs of the driver alone (its Ray finds out by itself): what was finished stays, to the byte, and the
    last start completes the rest. At least half of the kills fall into the training."""
    kills = runs = again = 0
    while kills < KILLS:
        results = tmp_path / f"results-{runs}"
        killed = 0
        done: dict[str, bytes] = {}
        with contextlib.ExitStack() as drivers:
            while kills + killed < KILLS and len(done) < TRIALS:
                # not taken away before the end: what a killed one started may go on for a moment, beside the next one
                driver = drivers.enter_context(command(results))
                if killed % 2:
                    time.sleep(chance.uniform(0, 10))
                else:
                    driver.wait_for_training()
                    time.sleep(chance.uniform(0, 5))
                if driver.ended:
                    break
                kill(driver.process.pid)
                driver.process.wait()
                killed += 1
                before, done = done, records(results)
                assert done.items() >= before.items(), "a finished trial was changed or lost"
        complete(results)
        again += check_results(results, reference, killed)
        kills += killed
        runs += 1
    print(f"the driver was killed {kills} times in {runs} runs, {again} epochs of {runs * 64} trained again")
    check_nothing_is_left_to_do(results)
