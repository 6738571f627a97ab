"""A cluster that is a head without CPUs: Ray's own autoscaler starts the machine that the trials wait for.

The machine is one of Ray's provider for its own tests, a node on this one; all else is real.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults.command import TRIALS, command
from support.faults.processes import kill_marked
from support.faults.proof import check_results
from support.faults.ray_processes import start_ray, token_variables
from support.services.free_ports import free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
_EMPTY = ("auth", "docker", "file_mounts")
_NOTHING = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
)


def _growing(address: str) -> dict[str, object]:
    """Return the settings of an autoscaler that may start one machine with two CPUs."""
    small = {"object_store_memory": 100_000_000}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {"resources": {"CPU": 2} | small, "node_config": {}, "min_workers": 0, "max_workers": 1}
    return {
        "cluster_name": "growing",
        "max_workers": 1,
        "provider": {"type": "fake_multinode", "gcs_address": address},
        "head_node_type": "ray.head.default",
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        **{name: {} for name in _EMPTY},
        **{name: [] for name in _NOTHING},
    }


@pytest.fixture
def growing() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of such a cluster, and the variables that a command needs to join it."""
    folder = Path(tempfile.mkdtemp(prefix="fa-", dir="/tmp"))
    port, join, settings = free_port(), token_variables(folder), folder / "growing.json"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect(("192.0.2.1", 9))  # sends nothing; the provider starts its nodes at the address that Ray finds
        host = outward.getsockname()[0]
    settings.write_text(json.dumps(_growing(f"{host}:{port}")))
    words = ["--head", f"--port={port}", f"--node-ip-address={host}", "--num-cpus=0"]
    words += ["--include-dashboard=false", f"--autoscaling-config={settings}"]
    try:
        start_ray(folder, folder.name, words, {**join, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"})
        yield f"{host}:{port}", join
    finally:
        kill_marked(folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def test_machines_come_for_trials_that_wait(
    tmp_path: Path, reference: Path, growing: tuple[str, dict[str, str]]
) -> None:
    """Trials that fit on none of the machines there are refused, with what would help: ``--node-type``. With it they
    wait, a machine comes, and the results are the undisturbed run's."""
    address, join = growing
    results = tmp_path / "results"
    with command(results, "--cluster", address, variables=join) as run:
        assert run.wait() == 2, run.said
        assert "(0 CPU, 0 GPU); if the cluster starts machines by itself, name their shape with --node-type" in run.said
    with command(results, "--cluster", address, "--node-type", "CPU=2", variables=join) as run:
        assert run.wait() == 0, run.said
        assert f"{TRIALS} of {TRIALS} trials done, 0 failed, 0 missing" in run.said
    assert check_results(results, reference, 0) == 0
