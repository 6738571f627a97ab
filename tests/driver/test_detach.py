"""``--detach`` and ``--stop`` as a user meets them: what is said, how it exits, and what outlives the terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import reproduce_all as cli
from pipelines.commands.reproduction import resume_command, status_command
from pipelines.driver.heartbeat_record import read_heartbeat
from pipelines.driver.lock import lock_owner

COMMAND = [
    sys.executable,
    str(Path(__file__).parents[1] / "support" / "stubs" / "detached_command.py"),
    "--only",
    "tiny/static-dnw",
]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The results folder of commands that run in ``tmp_path``; what still runs at the end is ended."""
    folder = tmp_path / "results"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_OURSELVES", COMMAND[:2])
    yield folder
    owner = lock_owner(folder)
    if owner is not None:
        os.kill(owner.pid, signal.SIGKILL)


@pytest.fixture
def command(results: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command in this process, which detaches another one: exit code, output, errors."""

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main([*COMMAND[2:], *words])
        return code, *capfd.readouterr()

    return run


def eventually(found: Callable[[], Any]) -> Any:
    """Return the first true answer."""
    until = time.monotonic() + 30
    while not (answer := found()) and time.monotonic() < until:
        time.sleep(0.05)
    return answer


def test_it_trains_in_the_background_until_it_is_stopped(
    results: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    """The command returns 0 as soon as training has begun, says once what it would have said, and where it goes on; a
    second driver is refused with the usual line; --stop ends it with its checkpoints, and again says that none is."""
    code, out, err = command("--detach", "--mode", "force")
    assert (code, err) == (0, "")
    first, where, how, stop = out.splitlines()
    said = read_heartbeat(results)
    assert said is not None
    assert first.startswith("scale smoke; 1 rows, 2 trials: 0 done, 2 to be trained")
    assert where.startswith(f"training as process {said.pid} on ")
    assert where.endswith(f"log: {results / 'driver.log'}")
    assert how == "to see its progress: python pipelines/reproduce_all.py --only tiny/static-dnw --status"
    assert stop == f"to stop it: python pipelines/reproduce_all.py --stop --results-dir {results}"
    assert said.command == "python pipelines/reproduce_all.py --only tiny/static-dnw --detach"  # forces nothing again
    assert os.getsid(said.pid) == said.pid

    _, out, _ = command("--status")
    assert f"at work: process {said.pid} on " in out
    assert "of this run's trials 2 waiting" in out
    code, out, err = command("--detach")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {results} is in use by process {said.pid} on ")
    assert err.count("\n") == 1

    code, out, _ = command("--stop")
    assert code == 0
    assert out.splitlines()[1] == f"it has stopped; to resume: {said.command}"
    assert lock_owner(results) is None
    log = (results / "driver.log").read_text().splitlines()
    words = "python pipelines/reproduce_all.py --only tiny/static-dnw --detach --mode force"
    assert log[1].endswith(f" process {said.pid}: {words}")
    assert log[2:6] == [first, "training", "a warning", "stopping"]
    assert log[-1] == f"stopped; what was finished is kept. To resume: {said.command}"
    assert command("--stop") == (0, f"no driver is at work on {results}\n", "")


def test_mistakes_look_as_they_do_without_it(results: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    """A mistake that shows early or only when the machines are looked at: the same line, once, and exit code 2."""
    assert command("--table", "tinny", "--detach") == command("--table", "tinny")
    assert not results.exists()
    (results.parent / "refuse").touch()
    code, out, err = command("--detach")
    assert (code, err) == (2, "error: no Ray cluster answers at nowhere:1\n")
    assert out.startswith("scale smoke; 1 rows, 2 trials")
    assert out.count("\n") == 1
    assert not (results / "driver.log").exists()


def test_it_outlives_its_terminal(results: Path) -> None:
    """Started in a terminal that closes: its session gets SIGHUP, the run goes on and ends by itself. The log of an
    earlier one is kept."""
    results.mkdir()
    (results / "driver.log").write_text("earlier\n")
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "-c", '"$@"; sleep 100', "-", *COMMAND, "--detach"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=results.parent,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(inside)
    log = results / "driver.log"
    assert eventually(lambda: "training" in log.read_text())
    said = read_heartbeat(results)
    assert said is not None
    os.close(terminal)  # the kernel sends SIGHUP to the session
    assert shell.wait(30) != 0
    assert lock_owner(results) is not None
    os.kill(said.pid, 0)
    (results.parent / "finish").touch()
    assert eventually(lambda: lock_owner(results) is None)
    text = log.read_text()
    assert text.startswith("earlier\n")
    assert "0 of 2 trials done" in text


def _take_terminal() -> None:
    import fcntl
    import termios

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the tests are deaf to it, and so would the shell be
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_ctrl_c_while_it_begins_is_passed_on(results: Path) -> None:
    """Whoever changes their mind before it trains ends both processes, and nothing is left at work."""
    (results.parent / "slow").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_CTRL_C, *COMMAND[1:], "--detach"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=results.parent,
    )
    owner = eventually(lambda: lock_owner(results))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; what was finished is kept. To resume: python" in err
    with pytest.raises(ProcessLookupError):
        os.kill(owner.pid, 0)


# a shell's background job, as these tests may be, ignores SIGINT
_WITH_CTRL_C = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_restart_does_not_force_again() -> None:
    """The commands that are printed for later leave out what must happen once only."""
    words = ["--mode", "force", "--only", "a b", "--detach"]
    assert resume_command(words) == "python pipelines/reproduce_all.py --only 'a b' --detach"
    assert status_command([*words, "--mode=force"]) == "python pipelines/reproduce_all.py --only 'a b' --status"
    assert resume_command([]) == "python pipelines/reproduce_all.py"
    assert resume_command(["--mode", "force"]) == "python pipelines/reproduce_all.py"
