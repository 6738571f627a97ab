"""The tracker's own process: it answers, is replaced when it dies, and ends with the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stubs.tracker import BusyTracker, QuickTracker

from pipelines.tracking.process import TrackerProcess

_DRIVER = """
import signal, sys
from pathlib import Path
from pipelines.tracking import process
from support.stubs.tracker import BusyTracker
process.Tracker = BusyTracker
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)
    process.TrackerProcess(None, Path(sys.argv[1])).sync([])
"""


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until it holds, for a minute at most."""
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_answers_and_is_replaced_when_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer comes back; the sync after its death starts another one; none is left at the end."""
    monkeypatch.setattr("pipelines.tracking.process.Tracker", QuickTracker)
    with TrackerProcess(None, tmp_path) as tracker:
        tracker.prepare()
        first = tracker.sync([{"row": "a"}, {"row": "b"}])
        assert (first.error, first.created) == (None, 2)
        dead, other = int(first.skipped[0]), os.getpid()
        assert dead != other
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: not tracker._process.is_alive())
        second = tracker.sync([{"row": "a"}])
        assert (second.error, second.created) == (None, 1)
        assert int(second.skipped[0]) not in (dead, other)
    assert not lives(int(second.skipped[0]))


def test_close_ends_it_in_the_middle_of_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that waits for its answer gets an error in one line, and no exception."""
    monkeypatch.setattr("pipelines.tracking.process.Tracker", BusyTracker)
    errors: list[str | None] = []
    tracker = TrackerProcess(None, tmp_path)
    waiting = threading.Thread(target=lambda: errors.append(tracker.sync([]).error))
    waiting.start()
    wait_until((tmp_path / "busy").exists)
    tracker.close()
    waiting.join(10)
    assert [str(error).partition(" (")[0] for error in errors] == ["its process has ended"]


def test_it_ends_with_the_driver_and_only_with_it(tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to all, is the driver's; a killed driver takes it along in the middle of work."""
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "driver.py").write_text(_DRIVER)
    driver = subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"},
        start_new_session=True,
    )
    wait_until((tmp_path / "busy").exists)
    tracker = int((tmp_path / "busy").read_text())
    os.killpg(driver.pid, signal.SIGINT)
    time.sleep(0.2)
    assert lives(driver.pid)
    assert lives(tracker)
    driver.kill()
    driver.wait()
    wait_until(lambda: not lives(tracker))


def test_one_that_cannot_begin_is_an_error_and_no_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ends at once."""
    monkeypatch.setattr("pipelines.tracking.process.Tracker", len)  # takes no address and no folder
    with TrackerProcess(None, tmp_path) as tracker:
        assert str(tracker.sync([]).error).startswith("its process has ended (")
