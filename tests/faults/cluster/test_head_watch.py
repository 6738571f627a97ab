"""The driver's look at the cluster's head: it ends the process when nobody listens there any more, and only then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.faults.command import ROOT
from support.faults.processes import wait_for

from pipelines.cluster import head_watch

_DRIVER = """
import sys, time
from pipelines.cluster.head_watch import head_watch
with head_watch(sys.argv[1], "the same command"):
    print("watching", flush=True)
    time.sleep(120)  # as Ray waits, for an answer that never comes
"""


def test_a_head_that_is_gone_ends_the_driver_with_a_line() -> None:
    """Exit code 1 and one line that names the head and the command to give again; no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        driver = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_gcs_rpc_server_reconnect_timeout_s": "1"},
        )
        assert driver.stdout is not None
        assert driver.stdout.readline() == "watching\n"
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1
    (line,) = said.strip().splitlines()
    assert line.startswith(f"error: the head of the Ray cluster at {address} has not answered for 1 s")
    assert line.endswith("When a cluster is there again: the same command")


def test_a_head_that_answers_again_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks in vain, an answer, two in vain: the time of three is not reached. Then it is, and the driver ends."""
    answers = [False, False, True, False, False, True, False, False, False]
    looks: list[bool] = []
    ended: list[int] = []

    def look(address: str) -> bool:
        looks.append(answers[len(looks)] if len(looks) < len(answers) else True)
        return looks[-1]

    monkeypatch.setattr(head_watch, "_PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(head_watch, "answers", look)
    monkeypatch.setattr(head_watch, "patience", lambda: 3.0)
    monkeypatch.setattr(head_watch, "time", SimpleNamespace(monotonic=lambda: float(len(looks))))  # a look a second
    monkeypatch.setattr(head_watch, "_end", lambda *_: ended.append(len(looks)))
    with head_watch.head_watch("127.0.0.1:1", "the same command"):
        wait_for("all looks", lambda: len(looks) > len(answers))
    assert ended == [len(answers)]


def test_it_is_quicker_than_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver speaks before Ray ends it, also where somebody has set Ray's time."""
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s", raising=False)
    assert head_watch.patience() == 45.0
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    assert head_watch.patience() == 15.0
