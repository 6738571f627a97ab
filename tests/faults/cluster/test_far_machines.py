"""No folder is seen by all machines: results in a bucket, or in a folder of the head alone, while machines are lost."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from support.faults.command import TRIALS, command, complete
from support.faults.in_a_bucket import EPOCHS_LOST, finished_in, plain_copy
from support.faults.losing import lose_machines
from support.faults.machines import Machines, machines, namespaces_are_to_be_had
from support.faults.processes import training, wait_for
from support.faults.proof import check_nothing_is_left_to_do, check_results
from support.services import s3_server

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not namespaces_are_to_be_had(), reason="needs root and network namespaces"),
]
IMPATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "24"}  # see test_lost_head.py
BUCKET_LOSSES = 5
HEAD_LOSSES = 2


def test_five_machines_are_lost_with_a_bucket(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """4 killed, 1 cut off from everything, the bucket too, while it trains on: what it brings later counts no more."""
    with machines(0) as cluster, s3_server.serve(cluster.host) as s3:
        nodes = [cluster.add(), cluster.add()]  # with the bucket's keys in their environment
        variables = {**cluster.environment, **s3.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        words = ["--cluster", cluster.address, "--max-failures", "0"]
        lost = runs = 0
        while lost < BUCKET_LOSSES:
            place = f"run-{runs}"
            of_this = _lose(cluster, nodes, f"s3://results/{place}", words, variables, BUCKET_LOSSES - lost, chance)
            again = check_results(
                plain_copy(s3.bucket(place), tmp_path / f"plain-{runs}"), reference, of_this * EPOCHS_LOST
            )
            lost, runs = lost + of_this, runs + 1
            print(f"{of_this} machines lost, {again} epochs of 64 trained again")
        before = finished_in(s3.bucket(place))
        assert f"{TRIALS} done, 0 to be trained" in complete(f"s3://results/{place}", *words, variables=variables)
        assert finished_in(s3.bucket(place)) == before


def test_two_machines_are_lost_with_the_store_on_the_head(
    tmp_path: Path, reference: Path, chance: random.Random
) -> None:
    """Trials write nowhere but on their own machines and by the actor on the head, which outlives those machines."""
    results = tmp_path / "results"
    with machines(2) as cluster:
        words = ["--cluster", cluster.address, "--store", "head", "--max-failures", "0"]
        lost = _lose(cluster, ["n1", "n2"], results, words, cluster.environment, HEAD_LOSSES, chance)
        assert lost
        print(
            f"{lost} machines lost, {check_results(results, reference, lost * EPOCHS_LOST)} epochs of 64 trained again"
        )
        check_nothing_is_left_to_do(results, *words, variables=cluster.environment)


def test_the_head_is_lost_with_a_bucket(tmp_path: Path, reference: Path, chance: random.Random) -> None:
    """The driver ends with exit code 1; the machines of the old head still train into the bucket beside the new ones,
    and what was finished first stays."""
    with machines(0) as cluster, s3_server.serve(cluster.host) as s3:
        old = [cluster.add(), cluster.add()]
        variables = {**cluster.environment, **s3.environment, **IMPATIENT, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        words, place = ["--cluster", cluster.address], "s3://results/run"
        with command(place, *words, variables=variables) as run:
            wait_for("training", lambda: run.ended or any(training(cluster.mark(name)) for name in old))
            time.sleep(chance.uniform(0, 5))
            assert not run.ended, run.said
            cluster.kill("head")
            assert run.wait() == 1, run.said
            assert run.said.splitlines()[-1].startswith("error: the head of the Ray cluster at "), run.said
        done = finished_in(s3.bucket("run"))
        cluster.start_head()
        for _ in old:
            cluster.add()
        complete(place, *words, variables=variables)
        assert finished_in(s3.bucket("run")).items() >= done.items(), "a finished trial was changed or lost"
        again = check_results(plain_copy(s3.bucket("run"), tmp_path / "plain"), reference, 2 * EPOCHS_LOST)
        print(f"{again} epochs of 64 trained again")


def _lose(
    cluster: Machines,
    nodes: list[str],
    results: Path | str,
    words: list[str],
    variables: dict[str, str],
    most: int,
    chance: random.Random,
) -> int:
    """Run the command and lose machines that train meanwhile, the second one by its link; return how many it were."""
    with command(results, *words, variables=variables) as run:
        lost = len(list(lose_machines(cluster, nodes, run, range(most), chance)))
        assert run.wait() == 0, run.said
        assert f"{TRIALS} of {TRIALS} trials done, 0 failed, 0 missing" in run.said
    assert lost, "a run in which nothing was lost proves nothing"
    return lost
