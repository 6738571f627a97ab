"""Trials are asked to leave, at random moments: by SIGTERM, and because their machine drains."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.faults.command import TRIALS, command
from support.faults.machines import Machines, machines, namespaces_are_to_be_had
from support.faults.processes import training, wait_for
from support.faults.proof import check_nothing_is_left_to_do, check_results, place_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
REQUESTS = 10
_DRAIN = """
import sys, time
import ray
from ray.core.generated import autoscaler_pb2
address, ip, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
ray.init(address=address, log_to_driver=False, logging_level="ERROR", _node_ip_address=address.rpartition(":")[0])
[node] = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == ip]
reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
print(ray._raylet.GcsClient(address=address).drain_node(node, reason, "a test", int(1000 * (time.time() + seconds))))
"""


def test_trials_that_are_asked_to_leave_lose_nothing(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """10 SIGTERMs, as many runs as it takes: not one epoch is trained again, and ``--max-failures 0`` gives none up."""
    asked = runs = 0
    while asked < REQUESTS:
        results = tmp_path / f"results-{runs}"
        interrupted: Counter[str] = Counter()
        with command(results, "--max-failures", "0") as run:
            while asked < REQUESTS and interrupted.total() < REQUESTS // 2:
                wait_for("a trial at work", lambda: run.ended or run.at_work())
                time.sleep(chance.uniform(0, 2))
                found = run.at_work()
                if run.ended:
                    break
                if not found:
                    continue
                victim = chance.choice(sorted(found))
                os.kill(victim, signal.SIGTERM)
                asked += 1
                interrupted[place_of(found[victim], results)] += 1
                # a second one during the checkpoint is allowed, but would be one interruption only
                wait_for("the process to leave", lambda victim=victim: run.ended or victim not in run.at_work())
            assert run.wait() == 0, run.said
            assert f"{TRIALS} of {TRIALS} trials done, 0 failed, 0 missing" in run.said
        assert check_results(results, reference, interrupted) == 0, "an epoch was trained again"
        runs += 1
    print(f"{asked} trials asked to leave in {runs} runs")
    check_nothing_is_left_to_do(results)


@pytest.mark.skipif(not namespaces_are_to_be_had(), reason="needs root and network namespaces")
def test_a_machine_that_drains_is_left(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """Ray says that a machine will go: its trial writes a checkpoint and goes on elsewhere before the machine is gone.

    Nothing is trained again although the machine is then killed, and nothing is counted (``--max-failures 0``).
    """
    results = tmp_path / "results"
    with (
        machines(2) as cluster,
        command(results, "--cluster", cluster.address, "--max-failures", "0", variables=cluster.environment) as run,
    ):
        wait_for("trials on both", lambda: run.ended or all(training(cluster.mark(name)) for name in ("n1", "n2")))
        time.sleep(chance.uniform(0, 2))
        begun = time.monotonic()
        _drain(cluster, "n1")
        wait_for("its trial to leave", lambda: run.ended or not training(cluster.mark("n1")))
        print(f"left {time.monotonic() - begun:.1f} s after the drain was asked for")
        cluster.kill("n1")
        cluster.add()
        assert run.wait() == 0, run.said
        # the second where the machine was gone before the driver had asked why
        said = ("its machine is about to go; it goes on", "its machine was taken away; it goes on")
        assert any(words in run.said for words in said), run.said
    assert check_results(results, reference, 1) == 0, "an epoch was trained again"


def _drain(cluster: Machines, name: str) -> None:
    """Announce the end of a machine, as an autoscaler or a spot notice does."""
    ip = f"{cluster.address.rpartition('.')[0]}.{10 + int(name[1:])}"
    said = subprocess.run(
        [sys.executable, "-c", _DRAIN, cluster.address, ip, "120"],
        env={**os.environ, **cluster.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "(True" in said.stdout, said.stderr
