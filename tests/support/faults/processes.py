"""Processes of a run, found without its help: by a mark in their environment, and by the log they have open.

Ray's daemons and workers leave their parent's session and process group, but not its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

MARK = "DNW_FAULT_RUN"
GIVE_UP_SECONDS = 400.0  # on a machine with much else to do; nothing waits this long on a quiet one


def wait_for(what: str, condition: Callable[[], object], limit: float = GIVE_UP_SECONDS, pause: float = 0.05) -> None:
    """Wait until the condition holds; fail with ``what`` when it does not."""
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, f"waited {limit:.0f} s in vain for {what}"
        time.sleep(pause)


def default_signals() -> None:
    """Before an exec: hear Ctrl-C, which a shell makes its background processes, and theirs, deaf to."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def living(process: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def marked(mark: str) -> dict[int, str]:
    """Return the living processes with this mark, and the command of each."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0") and living(int(folder.name)):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


def training(mark: str) -> dict[int, Path]:
    """Return the marked processes that have a trial now, and the working folder of each."""
    found = {}
    for process in marked(mark):
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = link.readlink()
                    if target.name == "log.txt" and target.parent.suffix == ".work":
                        found[process] = target.parent
    return found


def kill(*processes: int) -> int:
    """SIGKILL; return how many there were (some may have ended already)."""
    killed = 0
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            killed += 1
    return killed


def kill_marked(mark: str) -> None:
    """SIGKILL whatever has the mark, until nothing has it."""

    def gone() -> bool:
        kill(*marked(mark))
        return not marked(mark)

    wait_for("killed processes to be gone", gone, 30)


def quiet(*words: str) -> None:
    """Run a system command that must succeed."""
    subprocess.run(words, check=True, capture_output=True)
