"""Processes of trials are killed, at random moments, while the driver lives."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from support.faults.command import EPOCHS, Command, command
from support.faults.processes import kill, wait_for
from support.faults.proof import check_nothing_is_left_to_do, check_results, place_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
KILLS = 20
_MOST_A_RUN = 10  # so that a run comes to its end, too


def test_twenty_trials_are_killed(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """20 SIGKILLs, as many runs as it takes: each run ends by itself with the undisturbed run's results."""
    kills = runs = again = 0
    while kills < KILLS:
        results = tmp_path / f"results-{runs}"
        with command(results, "--max-failures", "100") as run:
            killed = _kill(run, min(_MOST_A_RUN, KILLS - kills), chance)
            assert run.wait() == 0, run.said
            assert "4 of 4 trials done, 0 failed, 0 missing" in run.said
        again += check_results(results, reference, killed)
        kills += killed.total()
        runs += 1
    print(f"{kills} trials killed in {runs} runs, {again} epochs of {runs * 4 * EPOCHS} trained again")
    check_nothing_is_left_to_do(results)


def _kill(run: Command, most: int, chance: random.Random) -> Counter[str]:
    """Kill trials until there were so many or the run ends; return how often each was killed, by its place.

    Moments are drawn in epochs, so that trials get on between two kills however busy the machine is.
    """
    killed: Counter[str] = Counter()
    while killed.total() < most:
        epochs = chance.randint(0, EPOCHS // 2)
        begun: dict[tuple[int, Path], int] = {}

        def ready(epochs: int = epochs, begun: dict[tuple[int, Path], int] = begun) -> list[tuple[int, Path]]:
            trained = {one: _epochs(one[1]) for one in run.at_work().items()}
            return [one for one, done in trained.items() if done - begun.setdefault(one, done) >= epochs]

        wait_for("a trial to kill", lambda ready=ready: run.ended or ready())
        if run.ended:
            break
        time.sleep(chance.uniform(0, 0.3))
        found = run.at_work()
        if found:
            victim = chance.choice(sorted(found))
            killed[place_of(found[victim], run.folder)] += kill(victim)
    return killed


def _epochs(work: Path) -> int:
    try:
        return (work / "log.txt").read_text().count(" epoch ")
    except FileNotFoundError:  # it has just been committed
        return 0
