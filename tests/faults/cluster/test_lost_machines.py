"""Machines of a real three-node cluster are lost, at random moments, and others join."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from support.faults.command import TRIALS, command
from support.faults.losing import lose_machines
from support.faults.machines import machines, namespaces_are_to_be_had
from support.faults.proof import check_nothing_is_left_to_do, check_results, place_of

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not namespaces_are_to_be_had(), reason="needs root and network namespaces"),
]
LOSSES = 5


def test_five_machines_are_lost(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """4 machines are killed with all that runs on them and 1 loses its link, which nobody is told; each time another
    joins. A lost machine counts against no trial: ``--max-failures 0`` gives none of them up."""
    lost = runs = again = 0
    with machines(2) as cluster:
        nodes = ["n1", "n2"]
        words = ["--cluster", cluster.address, "--max-failures", "0"]
        while lost < LOSSES:
            results = tmp_path / f"results-{runs}"
            interrupted: Counter[str] = Counter()
            with command(results, *words, variables=cluster.environment) as run:
                for folder in lose_machines(cluster, nodes, run, range(lost, LOSSES), chance):
                    interrupted[place_of(folder, results)] += 1
                    lost += 1
                assert run.wait() == 0, run.said
                assert f"{TRIALS} of {TRIALS} trials done, 0 failed, 0 missing" in run.said
                assert "(raylet)" not in run.said, "Ray's own pages about lost machines"
            again += check_results(results, reference, interrupted)
            runs += 1
        print(f"{lost} machines lost in {runs} runs, {again} epochs of {runs * 64} trained again")
        check_nothing_is_left_to_do(results, *words, variables=cluster.environment)
