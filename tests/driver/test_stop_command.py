"""``--stop``: one driver is asked, by its life's name, and whoever asked waits for it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnw_core.errors import UserError
from pipelines.driver import stop_command
from pipelines.driver.heartbeat import HeartbeatWriter
from pipelines.driver.lock import driver_lock
from pipelines.driver.status import find_driver
from pipelines.driver.stop_command import stop_driver
from pipelines.store.layout import STOP_FILE

_DRIVER = """
import signal, sys, time
from pathlib import Path
from pipelines.driver import heartbeat
from pipelines.driver.heartbeat import HeartbeatWriter
from pipelines.driver.lock import driver_lock
heartbeat._POLL_SECONDS = 0.02
signal.signal(signal.SIGINT, signal.default_int_handler)
results = Path(sys.argv[1])
with driver_lock(results), HeartbeatWriter(results, "the command"):
    print("at work", flush=True)
    try:
        time.sleep(120)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        raise SystemExit(130)
"""


@contextlib.contextmanager
def a_driver(results: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, beats, and sleeps until it is interrupted."""
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(results)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.usefixtures("quick_heartbeats")
def test_stop_is_ctrl_c_from_afar(tmp_path: Path) -> None:
    """The driver named gets its SIGINT once and ends, whoever asked waits for that; a request for another one's life
    does nothing, and where nobody is at work that is said."""
    said: list[str] = []
    assert stop_driver(tmp_path, said.append)
    with a_driver(tmp_path) as process:
        (tmp_path / STOP_FILE).write_text('{"run": "of an earlier driver"}')
        time.sleep(0.3)
        assert process.poll() is None
        assert stop_driver(tmp_path, said.append)
        assert process.wait(30) == 130
        assert process.stdout is not None
        assert process.stdout.read() == "interrupted\n"
    assert said[0] == f"no driver is at work on {tmp_path}"
    assert said[1].startswith(f"asked process {process.pid} on ")
    assert said[2] == "it has stopped; to resume: the command"
    assert not (tmp_path / STOP_FILE).exists()


@pytest.mark.usefixtures("quick_heartbeats")
def test_a_deaf_driver_is_said_to_be_at_work(tmp_path: Path) -> None:
    """Waiting has an end, and the answer is no; a killed one is said to be gone."""
    said: list[str] = []
    with a_driver(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        assert not stop_driver(tmp_path, said.append, wait_seconds=0.3)
        assert "is still at work" in said[-1]
        process.kill()
        process.wait()
        assert find_driver(tmp_path).state == "gone"


def test_stop_needs_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so."""

    def fail(path: Path, text: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(stop_command, "write_text", fail)
    with (
        driver_lock(tmp_path),
        HeartbeatWriter(tmp_path, "the command"),
        pytest.raises(UserError, match=r"cannot be written to .Read-only file system.; stop process"),
    ):
        stop_driver(tmp_path, lambda _: None)
