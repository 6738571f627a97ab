"""Loader processes do not outlive the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

OWNER = """
import sys, time
from dnw_core.data.streaming.loader import LoaderPool
pool = LoaderPool(1)
print(*(process._process.pid for process in pool._all), flush=True)
time.sleep(60)
"""


def test_loader_processes_end_with_their_trial() -> None:
    """A trial that is killed at once, with no chance to clean up, leaves no process behind."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 1
    assert all(Path(f"/proc/{pid}").exists() for pid in pids) or sys.platform != "linux"
    owner.kill()
    owner.wait()
    for _ in range(600):
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {[pid for pid in pids if alive(pid)]}")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody waits for does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
