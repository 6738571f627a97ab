"""Machines that train are lost while a run lasts, at random moments, and others join."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from support.faults.command import Command
from support.faults.machines import Machines
from support.faults.processes import training, wait_for

CUT = 1
"""Number of the loss, counted from 0, that is a link taken down, of which nobody is told; the others are SIGKILLs."""


def lose_machines(
    cluster: Machines, nodes: list[str], run: Command, numbers: range, chance: random.Random
) -> Iterator[Path]:
    """Lose a machine that trains for each number, until the run has ended; yield the working folder of its trial.

    Args:
        cluster: the machines.
        nodes: the names of those that may be lost; a new one takes the place of each that was.
        run: the command that uses them.
        numbers: of the losses; see ``CUT``.
        chance: draws the moments and the machines.
    """
    for number in numbers:
        at_work: dict[str, Path] = {}
        while not at_work:
            wait_for("a trial on a machine", lambda: run.ended or _at_work(cluster, nodes))
            time.sleep(chance.uniform(0, 3))
            if run.ended:
                return
            at_work = _at_work(cluster, nodes)
        name = chance.choice(sorted(at_work))
        if number == CUT:
            cluster.cut(name)
        else:
            cluster.kill(name)
        nodes.remove(name)
        nodes.append(cluster.add())
        yield at_work[name]


def _at_work(cluster: Machines, nodes: list[str]) -> dict[str, Path]:
    """Return the machines that train now, and the working folder of each."""
    return {name: folder for name in nodes for folder in training(cluster.mark(name)).values()}
