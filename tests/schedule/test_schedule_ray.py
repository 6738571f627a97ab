"""Ray itself, for real: outcomes, a killed worker, Ctrl-C, and nothing left behind. Quick trials from a stub."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stubs.specs import TRAIN, spec

import pipelines.schedule.tune_lean
from dnw_core.errors import UserError
from pipelines.driver import stopping as limits
from pipelines.schedule import run as schedule
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_stub_for_workers")]
HERE = Path(__file__).parents[1]


@pytest.fixture
def _stub_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own (its name short, for Ray's sockets): its leftovers are the test's."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: Path) -> list[str]:
    """Return the living processes whose command names one of our Ray folders."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"{folder}/" in command:
            found.append(command)
    return found


def _left_behind(folder: Path) -> list[str]:
    until = time.monotonic() + 10
    while time.monotonic() < until and _processes(folder):
        time.sleep(0.2)
    return [*map(str, folder.glob("dnw-ray-*")), *_processes(folder)]


def _asked_of_the_head(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note what Tune asks of the cluster's head while its experiment runs; Ray is not loaded before that."""
    asked: list[bytes] = []

    @contextlib.contextmanager
    def noting() -> Iterator[None]:
        from ray.tune import registry

        ask = registry._internal_kv_get
        with monkeypatch.context() as patched, tune_lean():
            patched.setattr(registry, "_internal_kv_get", lambda key: asked.append(key) or ask(key))
            yield

    tune_lean = pipelines.schedule.tune_lean.lean_tune
    monkeypatch.setattr(pipelines.schedule.tune_lean, "lean_tune", noting)
    return asked


def test_every_trial_ends_as_a_row(
    tmp_path: Path, temporary: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good trials are done, a failing one is failed, a worker killed once goes on, one that always dies is given up.

    Then nothing is left: no process, no temporary folder, nothing in the results folder but the trials. And the
    screen has a line a trial, none of Ray's own. Tune has asked the head but for the first trial what trains them.
    """
    asked = _asked_of_the_head(monkeypatch)
    store = Store.open(tmp_path / "results", create=True)
    rows = [("ok", 0), ("ok", 1), ("fails", 0), ("dies-once", 0), ("always-dies", 0)]
    specs = [spec(store.results_dir, row, seed) for row, seed in rows]
    finished: list[TrialSpec] = []
    outcome = schedule.run_schedule(specs, store=store, show="plain", on_finished=finished.append, train=TRAIN)
    assert outcome == schedule.ScheduleOutcome(done=3, failed=2, left=0, interrupted=False)
    states = {one.trial_id: store.state(one) for one in specs}
    assert [state.kind for state in states.values()] == ["done", "done", "failed", "done", "failed"]
    assert states[specs[2].trial_id].reason == "the loss is nan at epoch 0, step 3"
    assert "its process died" in str(states[specs[4].trial_id].reason)
    assert "(4 attempts)" in str(states[specs[4].trial_id].reason)
    assert {one.trial_id for one in finished} == set(states)
    assert 1 <= len(asked) <= 3, asked  # for the first trial
    log = (store.folder(specs[3]) / "log.txt").read_text().splitlines()
    assert len(log) == 2, "the killed trial should have begun exactly twice"
    assert len((store.work_folder(specs[2]) / "log.txt").read_text().splitlines()) == 1, "a failure was repeated"

    out, err = capfd.readouterr()
    assert err == ""
    said = [line for line in out.splitlines() if not line.startswith("running: ")]  # every half minute
    assert len(said) == 5 + 1 + limits.MAX_DEATHS, out
    assert sorted(path.name for path in store.results_dir.iterdir()) == ["store.json", "trials"]
    assert _left_behind(temporary) == []


def test_a_stop_just_as_tune_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune ends after its first step then, and looks for a file that it has just begun to write; it is there."""
    lean = pipelines.schedule.tune_lean.lean_tune

    @contextlib.contextmanager
    def stopped() -> Iterator[None]:
        with lean():
            signal.raise_signal(signal.SIGINT)
            yield

    monkeypatch.setattr(pipelines.schedule.tune_lean, "lean_tune", stopped)
    store = Store.open(tmp_path / "results", create=True)
    outcome = schedule.run_schedule([spec(store.results_dir, "ok")], store=store, show="none", train=TRAIN)
    assert outcome == schedule.ScheduleOutcome(done=0, failed=0, left=1, interrupted=True)


def test_trial_that_fits_nowhere_is_an_error(tmp_path: Path) -> None:
    """A trial that asks for more than this machine has is refused by name; without that it would wait for ever."""
    store = Store.open(tmp_path, create=True)
    with pytest.raises(UserError, match="stub/wide asks for 4096 CPU and 0 GPU on one machine, and none has that"):
        schedule.run_schedule([spec(tmp_path, "wide", cpus=4096.0)], store=store, show="none", train=TRAIN)
    assert not (tmp_path / ".run").exists()


_DRIVER = """
import sys
from pathlib import Path
from support.stubs.specs import TRAIN, spec
from pipelines.schedule import run as schedule
from pipelines.store.folder import Store
results = Path(sys.argv[1])
store = Store.open(results, create=True)
specs = [spec(results, "slow", seed, epochs=100, scale="short", cpus=0.5) for seed in range(12)]
specs.append(spec(results, "child", scale="short", cpus=0.5, parent=specs[0]))  # which never gets its turn
print(schedule.run_schedule(specs, store=store, show="plain", train=TRAIN))
"""


def test_ctrl_c_stops_cleanly_within_seconds(tmp_path: Path, temporary: Path) -> None:
    """SIGINT to the whole group, as a terminal sends it: the trials leave checkpoints and the driver ends by itself."""
    results = tmp_path / "results"
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"},
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and len(list(results.glob("trials/*/*/*/*.work/checkpoint.pt"))) < 2:
            time.sleep(0.1)
        begun = time.monotonic()
        os.killpg(driver.pid, signal.SIGINT)
        output, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert time.monotonic() - begun < limits.GRACE_SECONDS + 5
    assert driver.returncode == 0
    assert "ScheduleOutcome(done=0, failed=0, left=13, interrupted=True)" in output
    assert "stopping: the trials write their checkpoints" in output
    began = {path.parent for path in results.glob("trials/*/*/*/*.work/checkpoint.pt")}
    assert len(began) >= 2
    assert {path.parent for path in results.glob("trials/*/*/*/*.work/stopped")} == began
    assert sorted(path.name for path in results.iterdir()) == ["store.json", "trials"]
    assert _left_behind(temporary) == []
