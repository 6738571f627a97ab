"""The driver's sign of life, who reads it, and that no clock buries or revives anybody."""

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
from pipelines.driver.heartbeat import beating, job_name
from pipelines.driver.heartbeat_record import Heartbeat, lock_name, read_heartbeat
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


def word(**changes: Any) -> Heartbeat:
    """A driver's word, of another machine and just now if nothing else is said."""
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


@pytest.mark.usefixtures("quick_hearts")
def test_a_driver_says_where_its_trials_are(tmp_path: Path) -> None:
    """Counts, epochs and the machine of each trial that runs; the machine by the trial's own new word, not by what an
    earlier process has left. At the end it says how it ended."""
    one, two = spec(tmp_path, "one"), spec(tmp_path, "two")
    progress = Progress([one, two])
    work = work_folder(trial_folder(tmp_path, one))
    work.mkdir(parents=True)
    (work / "progress.json").write_text('{"epoch": 1, "host": "left-behind", "updated": 1}')
    with beating(tmp_path, "the command", "10.0.0.1:6379") as heart:
        said = read_heartbeat(tmp_path)
        assert said is not None
        assert (said.state, said.pid, said.cluster, said.counts) == ("at work", os.getpid(), "10.0.0.1:6379", {})
        heart.watch(progress)
        progress.start(one.trial_id)
        said = eventually(lambda: (now := read_heartbeat(tmp_path)) and now.running and now)
        assert said.running[0].host == ""
        (work / "progress.json").write_text('{"epoch": 1, "host": "node3", "updated": 2}')
        progress.epoch(one.trial_id, 1, 0.5, 10.0)
        said = eventually(lambda: (now := read_heartbeat(tmp_path)) and now.running[0].host and now)
        assert (said.running[0].row, said.running[0].host, said.running[0].epoch) == ("one", "node3", 1)
        assert said.counts == {"running": 1, "waiting": 1}
        lines = driver_lines(status.Driver("at work", said=said))
    said = read_heartbeat(tmp_path)
    assert said is not None
    assert (said.state, said.running) == ("ended", ())
    assert "cluster 10.0.0.1:6379; of this run's trials 1 running, 1 waiting" in lines[1]
    assert lines[2].startswith("  running: stub/one seed 0 on node3, epoch 1/2, last heard of 0 s before that")
    with pytest.raises(KeyboardInterrupt), beating(tmp_path, "the command"):
        raise KeyboardInterrupt
    said = read_heartbeat(tmp_path)
    assert said is not None
    assert (said.state, said.reason) == ("stopped", "")
    assert " was stopped at 20" in driver_lines(status.Driver("stopped", said=said))[1]


@pytest.mark.usefixtures("quick_hearts")
def test_a_mistake_is_the_drivers_last_word(tmp_path: Path) -> None:
    """Whoever has detached a run, or submitted it as a job, reads in --status why it has ended."""
    with pytest.raises(UserError), beating(tmp_path, "the command"):
        raise UserError("none of the machines\nhas a GPU")
    with driver_lock(tmp_path):
        pass  # the folder has been one
    found = find_driver(tmp_path)
    assert found.state == "stopped"
    first, second = driver_lines(found)
    assert first == "no driver is at work on this folder"
    assert re.fullmatch(r"  the last one \(.*\) ended with an error at 20.*: none of the machines has a GPU", second)


@pytest.mark.usefixtures("quick_hearts")
def test_a_full_disk_stops_no_heart_and_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that cannot be written is left out; the next one that can be says where the run is."""

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    with beating(tmp_path, "the command"):
        with monkeypatch.context() as full:
            full.setattr(heartbeat, "write_text", fail)
            time.sleep(0.2)
        before = read_heartbeat(tmp_path)
        assert before is not None
        assert eventually(lambda: (now := read_heartbeat(tmp_path)) and now.beat > before.beat)


def test_the_lock_tells_where_it_can(tmp_path: Path) -> None:
    """On the driver's own machine, and wherever its lock is seen, no time that a heartbeat names is asked for."""
    assert find_driver(tmp_path).state == "none"
    with driver_lock(tmp_path), beating(tmp_path, "the command"):
        assert find_driver(tmp_path).state == "at work"
        far = word(written=old(days=400), beat=1)
        (tmp_path / HEARTBEAT_FILE).write_text(far.model_dump_json())
        found = find_driver(tmp_path)
        assert (found.state, found.said) == ("at work", None)  # another driver's word is not this one's
    ours = word(boot=status.kernel_name(), lock=lock_name(tmp_path), host="anything")
    (tmp_path / HEARTBEAT_FILE).write_text(ours.model_dump_json())
    found = find_driver(tmp_path)
    assert found.state == "gone"
    (line,) = driver_lines(found)
    assert line.startswith("the driver (process 7 on anything) is gone, last heartbeat at 20")
    assert line.endswith("to resume: python pipelines/reproduce_all.py --scale paper")


def test_the_lock_of_a_copy_tells_nothing(tmp_path: Path) -> None:
    """A bucket's driver holds the lock of its own copy: in another copy on its machine its heartbeat tells."""
    (tmp_path / "driver.lock").touch()
    elsewhere = word(boot=status.kernel_name(), lock="1:2")
    assert find_driver(tmp_path, read=lambda: elsewhere).state == "at work"
    assert find_driver(tmp_path, read=lambda: elsewhere.model_copy(update={"lock": ""})).state == "at work"
    silent = elsewhere.model_copy(update={"written": old(days=1)})
    assert find_driver(tmp_path, read=lambda: silent, watch_seconds=0.1).state == "gone"


@pytest.mark.usefixtures("quick_hearts")
@pytest.mark.parametrize(
    "written",
    [
        pytest.param(old(days=2), id="two days behind"),  # an id with a time in it differs between pytest's processes
        pytest.param(old(hours=-3), id="three hours ahead"),
        "no time",
        "2026-01-01T00:00:00",
    ],
)
def test_elsewhere_a_heart_that_beats_is_alive_whatever_the_clocks_say(tmp_path: Path, written: str) -> None:
    """The driver's clock may be days away from ours: as long as its count moves it is at work, else it is gone."""
    beats = iter(range(5, 10_000))
    living = find_driver(tmp_path, read=lambda: word(written=written, beat=next(beats)), watch_seconds=30)
    assert living.state == "at work"
    dead = find_driver(tmp_path, read=lambda: word(written=written), watch_seconds=0.1)
    assert dead.state == "gone"


def test_elsewhere_a_fresh_word_is_believed(tmp_path: Path) -> None:
    """Nobody waits then; the line says by what it goes."""
    found = find_driver(tmp_path, read=word, watch_seconds=1e9)
    assert found.state == "at work"
    assert "its lock is not seen from here, its heartbeat is" in driver_lines(found)[0]
    assert find_driver(tmp_path, read=lambda: word(state="ended", written=old(days=9))).state == "ended"


@pytest.mark.usefixtures("quick_hearts")
def test_a_clock_that_jumps_stops_no_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with driver_lock(tmp_path), beating(tmp_path, "the command"):
        before = read_heartbeat(tmp_path)
        assert before is not None
        assert eventually(lambda: (now := read_heartbeat(tmp_path)) and now.beat > before.beat + 3)
        for _ in range(20):
            assert find_driver(tmp_path).state == "at work"
            assert driver_lines(find_driver(tmp_path))[0].startswith("at work: ")


def test_a_damaged_word_is_none(tmp_path: Path) -> None:
    """What is no heartbeat counts as none, a newer version's is read, and nothing unprintable reaches a screen."""
    path = tmp_path / HEARTBEAT_FILE
    good = word().model_dump()
    for text in ("", "{", "[]", "null", json.dumps(good | {"beat": "x"}), json.dumps(good | {"state": "dancing"})):
        path.write_text(text)
        assert read_heartbeat(tmp_path) is None, text
    path.write_text(json.dumps(good | {"new": 1, "command": "rm\x1b[2J\n -rf"}))
    said = read_heartbeat(tmp_path)
    assert said is not None
    assert said.command == "rm?[2J? -rf"
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
