"""Before anything is trained: addresses, machines, and what a run leaves behind. No Ray is started here."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest
from support.services.free_ports import free_port
from support.stubs.specs import spec

from dnw_core.config.execution import Execution
from dnw_core.errors import DataMissingError, UserError
from pipelines.cluster.capacity import without_missing_data
from pipelines.cluster.connection import resolve_address, try_address
from pipelines.cluster.environment import cluster_environment, local_environment, ray_environment, runtime_folder
from pipelines.cluster.fit import place_on_nodes
from pipelines.cluster.node_checks import missing_everywhere, probe_node
from pipelines.cluster.nodes import living_nodes
from pipelines.cluster.visibility import VisibilityProbe
from pipelines.driver.stopping import StopWatch, stop_request


def test_closed_port_is_one_line_at_once() -> None:
    """An address where nothing listens is refused in a second, not after Ray's retries."""
    port = free_port()
    begun = time.monotonic()
    with pytest.raises(UserError, match=rf"no Ray cluster answers at 127\.0\.0\.1:{port}"):
        try_address(f"127.0.0.1:{port}")
    assert time.monotonic() - begun < 3


def test_mute_server_is_given_up() -> None:
    """Something that accepts the connection and never answers is given up at the limit, although Ray would hang."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begun = time.monotonic()
        with pytest.raises(UserError, match="did not accept the connection within 3 s"):
            try_address(f"127.0.0.1:{mute.getsockname()[1]}", limit=3.0)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("address", ["nonsense", "host:0", "host:99999", "a b:1", "http://host:6379", "user@host:1"])
def test_malformed_address(address: str) -> None:
    """What is no HOST:PORT is refused with an example."""
    with pytest.raises(UserError, match="give HOST:PORT of the head"):
        resolve_address(address)


def test_auto_is_ray_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``auto`` takes RAY_ADDRESS; without one, and without a cluster on this machine, it says what to give."""
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    assert resolve_address("auto") == "10.1.2.3:6379"
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match="--cluster HOST:PORT"):
        resolve_address("auto")
    with pytest.raises(UserError, match="Ray Client"):
        resolve_address("ray://host:10001")


def _nodes(*sizes: tuple[float, float]) -> list[dict[str, object]]:
    return [
        {"NodeID": str(i), "NodeManagerHostname": f"node{i}", "Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}}
        for i, (cpus, gpus) in enumerate(sizes)
    ]


def test_trial_must_fit_on_one_node() -> None:
    """Two machines with 4 CPUs are no machine with 8; the row and what there is are named. Dead ones do not count."""
    specs = [spec(Path("/r"), cpus=4.0), spec(Path("/r"), "wide", cpus=8.0)]
    place_on_nodes(specs[:1], living_nodes(_nodes((4, 0), (4, 1))))
    with pytest.raises(UserError, match=r"stub/wide asks for 8 CPU .* node1 \(4 CPU, 1 GPU\), node0 \(4 CPU, 0 GPU\)"):
        place_on_nodes(specs, living_nodes(_nodes((4, 0), (4, 1))))
    dead = [{**node, "Alive": False} for node in _nodes((64, 8))]
    with pytest.raises(UserError, match="there is no node at all"):
        place_on_nodes(specs, living_nodes(dead))


@pytest.fixture
def probe(tmp_path: Path) -> VisibilityProbe:
    """What the nodes of a run below ``tmp_path / "results"`` look for, its marker written."""
    folder = tmp_path / "results" / ".run" / "x"
    folder.mkdir(parents=True)
    probe = VisibilityProbe(folder)
    probe.write_marker()
    return probe


def test_probe_notices_another_results_folder(tmp_path: Path, probe: VisibilityProbe) -> None:
    """A node that does not find the driver's marker under the results folder says so; one that does is fine."""
    assert probe_node(probe, [], "")[0] == ""
    marker = tmp_path / "results" / ".run" / "x" / "probe"
    marker.write_text("another driver's")
    assert f"does not see the results folder {tmp_path / 'results'} of the driver" in probe_node(probe, [], "")[0]
    marker.unlink()
    assert "does not see" in probe_node(probe, [], "")[0]


def test_probe_notices_missing_data(tmp_path: Path, probe: VisibilityProbe) -> None:
    """A node without the data set says which folder it looked in."""
    execution = Execution(data_dir=tmp_path / "nothing", cache_dir=tmp_path / "cache")
    needs = [("cifar10", execution.model_dump_json()), ("digits", execution.model_dump_json())]
    trouble, _, missing = probe_node(probe, needs, "")
    assert trouble == ""
    assert list(missing) == ["cifar10"]
    assert str(tmp_path / "nothing") in missing["cifar10"]


def test_data_that_no_node_has_leave_the_other_trials() -> None:
    """Missing everywhere: those trials are left out with one line. Missing on some nodes: these are named."""
    nodes = living_nodes(_nodes((4, 0), (4, 0)))
    both = [(node, [("digits", "{}"), ("cifar10", "{}")]) for node in nodes]
    everywhere = {"cifar10": {"node0": "not found", "node1": "not found"}}
    assert missing_everywhere(everywhere, both) == {"cifar10": "not found"}
    with pytest.raises(UserError, match="node node1: not found"):
        missing_everywhere({"cifar10": {"node1": "not found"}}, both)
    assert missing_everywhere({"cifar10": {"node1": "not found"}}, both[1:]) == {"cifar10": "not found"}

    here = spec(Path("/r"))
    data = here.recipe.data.model_copy(update={"dataset": "cifar10"})
    away = spec(Path("/r"), "away").model_copy(update={"recipe": here.recipe.model_copy(update={"data": data})})
    said: list[str] = []
    assert without_missing_data([here, away], {"cifar10": "not found"}, said.append) == [here]
    assert said == ["warning: data missing, 1 row is left out: not found"]
    with pytest.raises(DataMissingError, match="not found"):
        without_missing_data([away], {"cifar10": "not found"}, said.append)


def test_runtime_folder_is_private_and_goes() -> None:
    """The run's folder and token are readable by us alone and removed; one whose owner was killed is removed too."""
    with runtime_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        with runtime_folder():
            assert folder.exists(), "a living run's folder was taken for an abandoned one"
    assert not folder.exists()
    abandoned = folder
    abandoned.mkdir()
    (abandoned / "lock").touch()
    with runtime_folder():
        assert not abandoned.exists()


def test_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are set for the block only, and no usage statistics are sent by any process of it."""
    monkeypatch.setenv("RAY_ADDRESS", "keep")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    with ray_environment(local_environment(Path("/x")), without=("RAY_ADDRESS",)):
        assert "RAY_ADDRESS" not in os.environ
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ["RAY_ADDRESS"] == "keep"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


def test_token_mode_follows_the_users_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a token the mode is set, which Ray does not do for a given address; what the user set stays."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "RAY_AUTH_MODE" not in cluster_environment()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert cluster_environment()["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "RAY_AUTH_MODE" not in cluster_environment()


def test_stop_request_reaches_the_trial(tmp_path: Path) -> None:
    """A request is seen by whoever watches the file, is said once, and leaves nothing behind."""
    said: list[str] = []
    with stop_request(tmp_path, lambda: said.append("stopping")) as stop:
        assert not StopWatch(stop.file)()
        stop.request()
        stop.request()
        assert StopWatch(stop.file)()
        assert stop.requested
    assert said == ["stopping"]
    assert list(tmp_path.iterdir()) == []
