"""The head of the cluster is lost under a run, started again, and the same command is given again."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from support.faults.command import command, complete
from support.faults.machines import machines, namespaces_are_to_be_had
from support.faults.processes import training, wait_for
from support.faults.proof import check_nothing_is_left_to_do, check_results, records

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not namespaces_are_to_be_had(), reason="needs root and network namespaces"),
]
# how long Ray tries to reach a head that is gone; its default is a minute
IMPATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "24"}


def test_the_head_is_lost(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """The driver ends by itself with one line and exit code 1. What was finished stays; with a new head, beside
    machines that still train for the old one, the same command completes the rest."""
    results = tmp_path / "results"
    with machines(2) as cluster:
        words = ["--cluster", cluster.address]
        variables = cluster.environment | IMPATIENT
        with command(results, *words, variables=variables) as run:
            wait_for("training", lambda: run.ended or any(training(cluster.mark(name)) for name in ("n1", "n2")))
            time.sleep(chance.uniform(0, 5))
            assert not run.ended, run.said
            cluster.kill("head")
            assert run.wait() == 1, run.said
            last = run.said.splitlines()[-1]
            assert last.startswith(f"error: the head of the Ray cluster at {cluster.address} has not answered for 18 s")
            assert "python pipelines/reproduce_all.py" in last
            assert "Traceback" not in run.said
            assert "rpc_client" not in run.said, "Ray was quicker"
        done = records(results)
        cluster.start_head()
        for _ in range(2):
            cluster.add()
        complete(results, *words, variables=variables)
        assert records(results).items() >= done.items()
        print(f"{check_results(results, reference, 1)} epochs of 64 trained again")
        check_nothing_is_left_to_do(results, *words, variables=variables)
