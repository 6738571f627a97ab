"""Clearing a machine: its trials are asked to leave, Ray places nothing there any more, and mistakes are one line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnw_core.errors import UserError
from pipelines.commands import leave_node
from pipelines.commands.leave_node import clear, main

_TRIAL = """
import signal, sys, time
ways = {"leaves": lambda *_: sys.exit(0), "stays": lambda *_: None}
signal.signal(signal.SIGTERM, ways[sys.argv[1]])
print("at work", flush=True)
time.sleep(100)
time.sleep(100)
"""


@contextlib.contextmanager
def a_trial(way: str) -> Iterator[subprocess.Popen[str]]:
    """A process that leaves, or stays, when it is asked to leave."""
    process = subprocess.Popen([sys.executable, "-c", _TRIAL, way], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_trials_are_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that leave are waited for, those that do not are named when the time is over; none is no trouble."""
    with a_trial("leaves") as good:
        assert clear(30, lambda: [good.pid] if good.poll() is None else []) == []
        assert good.wait() == 0
    with a_trial("stays") as deaf:
        assert clear(0.3, lambda: [deaf.pid]) == [deaf.pid]
        assert deaf.poll() is None
    assert clear(30, lambda: []) == []
    assert capsys.readouterr().out.splitlines() == [
        "1 trials were asked to leave this machine, 1 have",
        "1 trials were asked to leave this machine, 0 have",
        "0 trials were asked to leave this machine, 0 have",
    ]


def test_trials_leave_where_ray_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head may be gone already: the checkpoints come first, and the mistake is one line and exit code 2."""
    asked: list[float] = []
    monkeypatch.setattr(leave_node, "clear", lambda seconds: asked.append(seconds) or [])

    def fail(cluster: str, seconds: float) -> None:
        raise UserError("no Ray cluster answers at 10.0.0.1:6379")

    monkeypatch.setattr(leave_node, "drain", fail)
    assert main(["--seconds", "5"]) == 2
    assert len(asked) == 1
    assert capsys.readouterr().err == "error: no Ray cluster answers at 10.0.0.1:6379\n"
    monkeypatch.setattr(leave_node, "drain", lambda cluster, seconds: None)
    assert main([]) == 0
    monkeypatch.setattr(leave_node, "clear", lambda seconds: [7])
    assert main([]) == 1
    for words in (["--second", "5"], ["--seconds", "soon"], ["here"]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1


_PLACED = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
def here():
    return "placed"
ready, _ = ray.wait([here.remote()], timeout=float(sys.argv[2]))
print(ray.get(ready[0]) if ready else "waits")
"""


_START = ["start", "--head", "--num-cpus=1", "--block", "--include-dashboard=false"]
_START += ["--min-worker-port=0", "--max-worker-port=0"]
_NOWHERE = "process_registry.trials_folder = lambda: Path('/nowhere')"
_IMPORTS = "from pathlib import Path; from pipelines.cluster import process_registry"
_MAIN = "from pipelines.commands import leave_node; raise SystemExit(leave_node.main())"


@pytest.mark.faults
def test_ray_places_nothing_on_a_node_that_is_left(tmp_path: Path) -> None:
    """A real node: before the command it takes a task, after it none (being idle, it ends by itself)."""
    port = 20_000 + os.getpid() % 9_000
    (tmp_path / "token").write_text("a" * 64)
    (tmp_path / "token").chmod(0o600)
    variables = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    folder = Path("/tmp") / f"t-leave-{os.getpid()}"  # noqa: S108 - short, for Ray's sockets
    node = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), *_START, f"--port={port}", f"--temp-dir={folder}"],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert node.stdout is not None
        address = next(line.split("'")[1] for line in node.stdout if "--address='" in line)

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, timeout=120)

        assert run("-c", _PLACED, address, "60").stdout == "placed\n"
        # not the trials that others of this user train on this machine
        command = f"{_IMPORTS}; {_NOWHERE}; {_MAIN}"
        left = run("-c", command, "--address", address, "--seconds", "20")
        assert (left.returncode, left.stderr) == (0, "")
        assert run("-c", _PLACED, address, "10").stdout != "placed\n"
        wrong = run("-c", command, "--address", "127.0.0.1:1", "--seconds", "1")
        assert wrong.returncode == 2
        assert wrong.stderr.startswith("error: no Ray cluster answers at 127.0.0.1:1")
    finally:
        node.send_signal(signal.SIGTERM)
        time.sleep(2)
        os.killpg(node.pid, signal.SIGKILL)
        node.communicate()
        subprocess.run(["rm", "-rf", str(folder)])
