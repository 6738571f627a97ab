"""In a local run nothing listens where another machine could connect, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.faults.command import Command
from support.faults.processes import marked, wait_for
from support.services.listening import Listening, listening
from support.services.ray_session import TESTS
from support.stubs.specs import spec

from pipelines.cluster import capacity as machines
from pipelines.cluster.visibility import VisibilityProbe
from pipelines.driver.stopping import GRACE_SECONDS

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

_DRIVER = """
import sys
from pathlib import Path
from support.stubs.specs import spec
from support.stubs.tiny_trials import small_recipe
from dnw_core.config import fingerprint
from pipelines import schedule
from pipelines.spec import ParentTrial, Resources
from pipelines.store import Store
results = Path(sys.argv[2])
store = Store.open(results, create=True)
def trial(row, workers=1, cpus=0.5, epochs=100_000, **changes):
    recipe = small_recipe(epochs=epochs, schedule={"kind": "cosine"}, **changes)
    one = spec(results, row)
    execution = one.execution.model_copy(update={"workers": workers})
    asked = Resources(cpus=cpus, workers=workers)
    return one.model_copy(
        update={"recipe": recipe, "fingerprint": fingerprint(recipe), "execution": execution, "resources": asked}
    )
specs = [trial("alone"), trial("together", 2, batch_norm_images=32)]
specs += [trial(f"later-{number}", cpus=2, epochs=90_000 - number) for number in range(3)]
alone = specs[0]
child = trial("child", wiring={"rule": "fine-tune", "density": 0.15}, parent=alone.recipe)
parent = ParentTrial(table=alone.table, row=alone.row, fingerprint=alone.fingerprint)
specs.append(child.model_copy(update={"parent": parent}))
print(schedule.run_schedule(specs, store=store))
"""


@linux_only
@pytest.mark.slow
def test_a_local_run_is_private_and_stops_cleanly(tmp_path: Path) -> None:
    """Every socket of the driver, Ray's processes, a trial's and two workers of another one is the loopback's.

    Looked at again and again from the first process on, until all of them were seen to listen. Then SIGINT to the
    whole group, as a terminal sends it: the trials that run leave checkpoints, the others and a child never begin, and
    the driver ends by itself within seconds and leaves neither a process nor a folder.
    """
    results = tmp_path / "results"
    wanted = {"gcs_server", "raylet/raylet", "ray::", "dnw_core.training.workers.process", sys.executable}
    seen: set[Listening] = set()

    def rows(file: str) -> set[str]:
        return {path.parts[-4] for path in results.glob(f"trials/stub/*/*/*/{file}")}

    def all_listen_and_two_train() -> bool:
        seen.update(listening(marked(run.mark)))
        missing = [word for word in wanted if not any(word in one.process for one in seen)]
        return not missing and rows("progress.json") >= {"alone", "together"}

    path = {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    with contextlib.closing(Command(results, program=[sys.executable, "-c", _DRIVER], variables=path)) as run:
        wait_for("training", lambda: run.ended or all_listen_and_two_train(), limit=200)
        assert not run.ended, run.said
        begun = time.monotonic()
        run.interrupt()
        assert run.wait() == 0, run.said
        assert time.monotonic() - begun < GRACE_SECONDS + 5
        assert {one for one in seen if not one.loopback} == set()
        assert "ScheduleOutcome(done=0, failed=0, left=6, interrupted=True)" in run.said
        assert "stopping: the trials write their checkpoints" in run.said
        assert rows("checkpoint.pt") == rows("log.txt")
        assert "child" not in rows("log.txt")
        for log in results.glob("trials/stub/*/*/*/log.txt"):
            assert "stopped on request" in log.read_text()
        assert sorted(path.name for path in results.iterdir()) == ["store.json", "trials"]
        assert run.left_behind() == []


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
