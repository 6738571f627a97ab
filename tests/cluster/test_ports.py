"""The doors of the house: in a local run nothing listens where another machine could knock."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.services.listening import Listening, listening, marked_processes
from support.stubs.specs import spec

from pipelines.cluster import capacity as machines
from pipelines.cluster.connection import _clusters_allowed
from pipelines.cluster.environment import CLUSTERS_VARIABLE, local_environment, ray_environment
from pipelines.cluster.visibility import VisibilityProbe

HERE = Path(__file__).parents[1]
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

_DRIVER = """
import sys
from pathlib import Path
from support.stubs.specs import spec
from support.stubs.tiny_trials import small_recipe
from dnw_core.config.base import fingerprint
from pipelines.schedule import run as schedule
from pipelines.spec import Resources
from pipelines.store.folder import Store
results = Path(sys.argv[1])
store = Store.open(results, create=True)
def trial(row, workers, **changes):
    recipe = small_recipe(epochs=100_000, schedule={"kind": "cosine"}, **changes)
    one = spec(results, row, cpus=0.5)
    execution = one.execution.model_copy(update={"workers": workers})
    asked = Resources(cpus=0.5, workers=workers)
    return one.model_copy(
        update={"recipe": recipe, "fingerprint": fingerprint(recipe), "execution": execution, "resources": asked}
    )
specs = [trial("alone", 1), trial("together", 2, batch_norm_images=32)]
print(schedule.run_schedule(specs, store=store, show="plain"))
"""


@linux_only
@pytest.mark.slow
def test_a_local_run_listens_on_the_loopback_only(tmp_path: Path) -> None:
    """Every socket of the driver, Ray's processes, a trial's and two workers of another one is the loopback's.

    Looked at again and again from the first process on, until all of them were seen to listen.
    """
    mark = uuid.uuid4().hex
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path / "results")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, "DNW_TEST_MARK": mark},
    )
    seen: set[Listening] = set()
    wanted = {"gcs_server", "raylet/raylet", "ray::", "dnw_core.training.workers.process", sys.executable}
    progress = (tmp_path / "results" / "trials" / "stub").glob
    until = time.monotonic() + 200
    try:
        while time.monotonic() < until and driver.poll() is None:
            seen |= listening(marked_processes(mark))
            trained = {path.parts[-4] for path in progress("*/*/*/progress.json")}
            if trained == {"alone", "together"} and all(any(word in one.process for one in seen) for word in wanted):
                break
            time.sleep(0.2)
        os.killpg(driver.pid, signal.SIGINT)
        said, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert {one for one in seen if not one.loopback} == set()
    assert {word for word in wanted if not any(word in one.process for one in seen)} == set(), said
    assert trained == {"alone", "together"}, said
    assert "interrupted=True" in said


@linux_only
def test_an_open_door_would_be_found() -> None:
    """The listing tells a socket on every interface from one on the loopback, over both versions of IP."""
    with (
        socket.create_server(("0.0.0.0", 0)) as everywhere,  # noqa: S104
        socket.create_server(("127.0.0.1", 0)) as here,
        socket.create_server(("::", 0), family=socket.AF_INET6) as six,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("0.0.0.0", 0))  # noqa: S104
        found = {(one.protocol, one.port): one.loopback for one in listening([os.getpid()])}
        assert found["tcp", everywhere.getsockname()[1]] is False
        assert found["tcp", here.getsockname()[1]] is True
        assert found["tcp6", six.getsockname()[1]] is False
        assert found["udp", datagrams.getsockname()[1]] is False


def test_one_process_may_use_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray reads the variable once, when it is imported: a cluster's run after a local one still gets a real address."""
    variables = local_environment(tmp_path)
    with ray_environment(variables):  # what Ray reads of it now holds for all later tests of this process
        from ray._private import ray_constants

    assert variables[CLUSTERS_VARIABLE] == "0"
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    with _clusters_allowed(True, None):
        assert ray_constants.ENABLE_RAY_CLUSTER is sys.platform.startswith("linux")
    with _clusters_allowed(False, None):
        assert ray_constants.ENABLE_RAY_CLUSTER is False
    assert ray_constants.ENABLE_RAY_CLUSTER is sys.platform.startswith("linux")
    with _clusters_allowed(True, "0"):
        assert ray_constants.ENABLE_RAY_CLUSTER is False  # the user's word


@pytest.mark.parametrize(
    ("address", "unguarded", "warned"),
    [("10.0.0.1:6379", ["node1"], 1), ("10.0.0.1:6379", [], 0), ("127.0.0.1:6379", ["node1"], 0)],
)
def test_a_cluster_without_a_token_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, unguarded: list[str], warned: int
) -> None:
    """One line before training, where others reach its ports; none where it has a token or is this machine's alone."""
    context = SimpleNamespace(gcs_address=address)
    node = {"NodeID": "a", "NodeManagerHostname": "node1", "Alive": True, "Resources": {"CPU": 8.0}}
    ray = SimpleNamespace(nodes=lambda: [node], get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(machines, "check_nodes", lambda *_: (unguarded, {}))
    said: list[str] = []
    machines.check_machines([spec(tmp_path)], address, VisibilityProbe(tmp_path), SimpleNamespace(note=said.append))
    assert len([line for line in said if "runs without token authentication" in line]) == warned
    assert all("start every node with RAY_AUTH_MODE=token" in line for line in said)
