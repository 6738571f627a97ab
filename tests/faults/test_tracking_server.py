"""The tracking server goes away in the middle of a run: for a while, and for good."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults.command import ROOT, TRIALS, command
from support.faults.processes import MARK, kill_marked, wait_for
from support.faults.proof import check_results
from support.services.free_ports import free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


class Server:
    """A real MLflow server on loopback, which can be killed and started again with what it knew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = f"{folder}"
        self.database = folder / "server.db"
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"]
        words += ["--artifacts-destination", str(self._folder / "artifacts")]
        words += ["--host", "127.0.0.1", "--port", str(self._port)]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", MARK: self._mark}
        subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
        wait_for("the tracking server", self._answers, pause=0.2)

    def kill(self) -> None:
        """SIGKILL for all of it."""
        kill_marked(self._mark)

    def runs(self) -> tuple[int, int]:
        """Return how many runs it holds, and how many of them are finished."""
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            statuses = [status for (status,) in database.execute("select status from runs")]
        return len(statuses), statuses.count("FINISHED")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that has been started."""
    folder = tmp_path / "server"
    folder.mkdir()
    one = Server(folder)
    try:
        one.start()
        yield one
    finally:
        one.kill()


def test_server_down_for_a_while_and_for_good(tmp_path: Path, reference: Path, server: Server) -> None:
    """Killed while trials train and started again before the end: every run is there. Killed for good: exit code 0
    with one warning, and sync_mlflow.py brings it up to date later. The results are the undisturbed run's."""
    everything = (TRIALS + 2, TRIALS + 2)  # a run for every trial, and one for each of the two rows
    results = tmp_path / "a-while"
    with command(results, "--tracking-uri", server.uri) as run:
        run.wait_until_it_says("[1/4]")
        server.kill()
        run.wait_until_it_says("[2/4]")
        with run.held():  # a server takes longer to start than these trials to end
            server.start()
        assert run.wait() == 0, run.said
        assert "Traceback" not in run.said, run.said
    check_results(results, reference, 0)
    assert server.runs() == everything

    results = tmp_path / "for-good"
    server.database.unlink()
    server.kill()
    server.start()
    with command(results, "--tracking-uri", server.uri) as run:
        run.wait_until_it_says("[1/4]")
        server.kill()
        assert run.wait() == 0, run.said
        assert "Traceback" not in run.said, run.said
        assert run.said.count("warning: the tracker") == 2, run.said  # while it trains, and at the end
        assert "sync_mlflow.py" in run.said
    check_results(results, reference, 0)
    server.start()
    sync = [sys.executable, str(ROOT / "pipelines" / "sync_mlflow.py"), "--tracking-uri", server.uri]
    done = subprocess.run([*sync, "--results-dir", str(results)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert server.runs() == everything
