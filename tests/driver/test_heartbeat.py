"""The driver's heartbeat, its readers, and that no clock declares a driver dead or alive."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import spec

from dnw_core.errors import UserError
from pipelines.driver import heartbeat, status
from pipelines.driver.heartbeat import HeartbeatWriter, job_name
from pipelines.driver.heartbeat_record import Heartbeat, kernel_name, lock_name, read_heartbeat
from pipelines.driver.lock import driver_lock
from pipelines.driver.progress import Progress
from pipelines.driver.status import driver_lines, find_driver
from pipelines.store.layout import HEARTBEAT_FILE, trial_folder, work_folder


def eventually(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return the first true answer."""
    until = time.monotonic() + seconds
    while not (answer := found()) and time.monotonic() < until:
        time.sleep(0.02)
    return answer


def beat(**changes: Any) -> Heartbeat:
    """A heartbeat of a driver on another machine, just now unless changed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = {
        "run": "r1",
        "host": "far",
        "boot": "another kernel",
        "pid": 7,
        "started": now,
        "written": now,
        "beat": 5,
        "command": "python pipelines/reproduce_all.py --scale paper",
        "state": "at work",
    }
    return Heartbeat.model_validate(values | changes)


def old(**delta: float) -> str:
    """The time so long ago."""
    return (datetime.now(UTC) - timedelta(**delta)).isoformat(timespec="seconds")


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., status.Driver]:
    """Finds the driver of a folder whose heartbeats are those of a function."""

    def driver(read: Callable[[], Heartbeat], watch_seconds: float = status.WATCH_SECONDS) -> status.Driver:
        monkeypatch.setattr(status, "read_heartbeat", lambda _: read())
        return find_driver(tmp_path, watch_seconds=watch_seconds)

    return driver


@pytest.mark.usefixtures("quick_heartbeats")
def test_a_driver_reports_its_trials(tmp_path: Path) -> None:
    """Counts, epochs and the machine of each running trial; the machine by its own new report, not by an earlier
    process's. The last heartbeat says how the driver ended."""
    one, two = spec(tmp_path, "one"), spec(tmp_path, "two")
    progress = Progress([one, two])
    work = work_folder(trial_folder(tmp_path, one))
    work.mkdir(parents=True)
    (work / "progress.json").write_text('{"epoch": 1, "host": "left-behind", "updated": 1}')
    with HeartbeatWriter(tmp_path, "the command", "10.0.0.1:6379") as writer:
        last = read_heartbeat(tmp_path)
        assert last is not None
        assert (last.state, last.pid, last.cluster, last.counts) == ("at work", os.getpid(), "10.0.0.1:6379", {})
        writer.watch(progress)
        progress.start(one.trial_id)
        last = eventually(lambda: (now := read_heartbeat(tmp_path)) and now.running and now)
        assert last.running[0].host == ""
        (work / "progress.json").write_text('{"epoch": 1, "host": "node3", "updated": 2}')
        progress.epoch(one.trial_id, 1, 0.5, 10.0)
        last = eventually(lambda: (now := read_heartbeat(tmp_path)) and now.running[0].host and now)
        assert (last.running[0].row, last.running[0].host, last.running[0].epoch) == ("one", "node3", 1)
        assert last.counts == {"running": 1, "waiting": 1}
        lines = driver_lines(status.Driver("at work", last=last))
    last = read_heartbeat(tmp_path)
    assert last is not None
    assert (last.state, last.running) == ("ended", ())
    assert "cluster 10.0.0.1:6379; of this run's trials 1 running, 1 waiting" in lines[1]
    assert lines[2].startswith("  running: stub/one seed 0 on node3, epoch 1/2, last report 0 s before that")
    with pytest.raises(KeyboardInterrupt), HeartbeatWriter(tmp_path, "the command"):
        raise KeyboardInterrupt
    last = read_heartbeat(tmp_path)
    assert last is not None
    assert (last.state, last.reason) == ("stopped", "")
    assert " was stopped at 20" in driver_lines(status.Driver("stopped", last=last))[1]


@pytest.mark.usefixtures("quick_heartbeats")
def test_a_mistake_is_in_the_last_heartbeat(tmp_path: Path) -> None:
    """Whoever has detached a run, or submitted it as a job, reads in --status why it has ended."""
    with pytest.raises(UserError), HeartbeatWriter(tmp_path, "the command"):
        raise UserError("none of the machines\nhas a GPU")
    with driver_lock(tmp_path):
        pass  # the folder has been one
    found = find_driver(tmp_path)
    assert found.state == "stopped"
    first, second = driver_lines(found)
    assert first == "no driver is at work on this folder"
    assert re.fullmatch(r"  the last one \(.*\) ended with an error at 20.*: none of the machines has a GPU", second)


@pytest.mark.usefixtures("quick_heartbeats")
def test_a_full_disk_stops_neither_heartbeat_nor_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that cannot be written is left out; the next one that can be says where the run is."""

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    with HeartbeatWriter(tmp_path, "the command"):
        with monkeypatch.context() as full:
            full.setattr(heartbeat, "write_text", fail)
            time.sleep(0.2)
        before = read_heartbeat(tmp_path)
        assert before is not None
        assert eventually(lambda: (now := read_heartbeat(tmp_path)) and now.beat > before.beat)


def test_the_lock_tells_where_it_can(tmp_path: Path) -> None:
    """On the driver's own machine, and wherever its lock is seen, no time that a heartbeat names is asked for."""
    assert find_driver(tmp_path).state == "none"
    with driver_lock(tmp_path), HeartbeatWriter(tmp_path, "the command"):
        assert find_driver(tmp_path).state == "at work"
        far = beat(written=old(days=400), beat=1)
        (tmp_path / HEARTBEAT_FILE).write_text(far.model_dump_json())
        found = find_driver(tmp_path)
        assert (found.state, found.last) == ("at work", None)  # not another driver's heartbeat
    ours = beat(boot=kernel_name(), lock=lock_name(tmp_path), host="anything")
    (tmp_path / HEARTBEAT_FILE).write_text(ours.model_dump_json())
    found = find_driver(tmp_path)
    assert found.state == "gone"
    (line,) = driver_lines(found)
    assert line.startswith("the driver (process 7 on anything) is gone, last heartbeat at 20")
    assert line.endswith("to resume: python pipelines/reproduce_all.py --scale paper")


def test_the_lock_of_a_copy_tells_nothing(tmp_path: Path, find: Callable[..., status.Driver]) -> None:
    """A bucket's driver holds the lock of its own copy: in another copy on its machine its heartbeat tells."""
    (tmp_path / "driver.lock").touch()
    elsewhere = beat(boot=kernel_name(), lock="1:2")
    assert find(lambda: elsewhere).state == "at work"
    assert find(lambda: elsewhere.model_copy(update={"lock": ""})).state == "at work"
    silent = elsewhere.model_copy(update={"written": old(days=1)})
    assert find(lambda: silent, watch_seconds=0.1).state == "gone"


@pytest.mark.usefixtures("quick_heartbeats")
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(old(days=2), id="two days behind"),  # an id with a time in it differs between pytest's processes
        pytest.param(old(hours=-3), id="three hours ahead"),
        "no time",
        "2026-01-01T00:00:00",
    ],
)
def test_elsewhere_a_beating_driver_is_alive_whatever_the_clocks_say(
    find: Callable[..., status.Driver], written: str
) -> None:
    """The driver's clock may be days away from ours: as long as its count moves it is at work, else it is gone."""
    beats = iter(range(5, 10_000))
    living = find(lambda: beat(written=written, beat=next(beats)), watch_seconds=30)
    assert living.state == "at work"
    dead = find(lambda: beat(written=written), watch_seconds=0.1)
    assert dead.state == "gone"


def test_elsewhere_a_fresh_heartbeat_is_trusted(find: Callable[..., status.Driver]) -> None:
    """Nobody waits then; the line says what it rests on."""
    found = find(beat, watch_seconds=1e9)
    assert found.state == "at work"
    assert "seen by its heartbeat, not by its lock" in driver_lines(found)[0]
    assert find(lambda: beat(state="ended", written=old(days=9))).state == "ended"


@pytest.mark.usefixtures("quick_heartbeats")
def test_a_jumping_clock_stops_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the wall clock of the driver does, it goes on counting, and on its own machine it is at work."""
    jumps = iter([10**9, -(10**9), 3600, -3600] * 1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: max(0.0, real() + next(jumps)))

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(time.time(), tz)

    monkeypatch.setattr(heartbeat, "datetime", Jumping)
    monkeypatch.setattr(status, "datetime", Jumping)
    with driver_lock(tmp_path), HeartbeatWriter(tmp_path, "the command"):
        before = read_heartbeat(tmp_path)
        assert before is not None
        assert eventually(lambda: (now := read_heartbeat(tmp_path)) and now.beat > before.beat + 3)
        for _ in range(20):
            assert find_driver(tmp_path).state == "at work"
            assert driver_lines(find_driver(tmp_path))[0].startswith("at work: ")


def test_a_damaged_heartbeat_is_none(tmp_path: Path) -> None:
    """What is no heartbeat counts as none, a newer version's is read, and nothing unprintable reaches a screen."""
    path = tmp_path / HEARTBEAT_FILE
    good = beat().model_dump()
    for text in ("", "{", "[]", "null", json.dumps(good | {"beat": "x"}), json.dumps(good | {"state": "dancing"})):
        path.write_text(text)
        assert read_heartbeat(tmp_path) is None, text
    path.write_text(json.dumps(good | {"new": 1, "command": "rm\x1b[2J\n -rf"}))
    last = read_heartbeat(tmp_path)
    assert last is not None
    assert last.command == "rm?[2J? -rf"
    path.write_text(json.dumps(good | {"seconds_left": float("nan")}))
    assert read_heartbeat(tmp_path) is None
    path.unlink()
    (tmp_path / "elsewhere").write_text(json.dumps(good))
    path.symlink_to(tmp_path / "elsewhere")
    assert read_heartbeat(tmp_path) is None


def test_the_schedulers_job_is_named() -> None:
    """A driver that was submitted says as which job; a damaged environment is no job."""
    submitted = json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}})
    assert job_name({"RAY_JOB_CONFIG_JSON_ENV_VAR": submitted}) == "Ray job raysubmit_1"
    assert job_name({"RAY_JOB_CONFIG_JSON_ENV_VAR": "[]", "SLURM_JOB_ID": "12"}) == "SLURM job 12"
    assert job_name({}) == ""
