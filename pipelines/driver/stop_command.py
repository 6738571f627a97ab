"""``--stop``: asks the driver of a results folder to stop as Ctrl-C does, from any machine that sees the folder.

The request is a file that names one run of a driver (``Heartbeat.run``), so it never reaches another one; the driver's
``HeartbeatWriter`` checks for it every second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from dnw_core.errors import UserError
from dnw_core.files import write_text
from pipelines.driver.status import Driver, find_driver
from pipelines.driver.stopping import REMOTE_GRACE_SECONDS
from pipelines.store import STOP_FILE

WAIT_SECONDS = REMOTE_GRACE_SECONDS + 80.0  # for the checkpoints, the tracker and Ray
_ANNOUNCE_SECONDS = 10.0  # within which a driver that has just started writes its first heartbeat
_POLL_SECONDS = 0.3


def stop_driver(
    results_dir: Path, say: Callable[[str], None], wait_seconds: float = WAIT_SECONDS, place: str = ""
) -> bool:
    """Ask the driver at work to stop and wait until it has; return False if it is still at work after that time.

    Args:
        results_dir: the results folder, or the copy of a bucket.
        say: prints one line.
        wait_seconds: how long to wait.
        place: the user's name for it; the folder by default.

    Raises:
        UserError: if it cannot be asked.
    """
    driver = _find_announced(results_dir)
    if driver.state != "at work":
        say(f"no driver is at work on {place or results_dir}")
        return True
    last = driver.last
    if last is None:
        raise UserError(
            f"{driver.owner} writes no heartbeat and cannot be asked; press Ctrl-C there, or send it SIGINT"
        )
    try:
        write_text(results_dir / STOP_FILE, json.dumps({"run": last.run}) + "\n")
    except OSError as error:
        raise UserError(f"{results_dir} cannot be written to ({error.strerror or error}); stop {last} there") from None
    say(f"asked {last} to stop; its trials write their checkpoints")
    until = time.monotonic() + wait_seconds
    while time.monotonic() < until:
        now = find_driver(results_dir)
        if now.state != "at work" or (now.last is not None and now.last.run != last.run):
            say(f"it has {'ended' if now.state == 'ended' else 'stopped'}; to resume: {last.command}")
            return True
        time.sleep(_POLL_SECONDS)
    say(f"{last} was asked to stop and is still at work after {wait_seconds:.0f} s; --status shows when it has ended")
    return False


def _find_announced(results_dir: Path) -> Driver:
    """Return the driver, once it has written a heartbeat."""
    until = time.monotonic() + _ANNOUNCE_SECONDS
    driver = find_driver(results_dir)
    while driver.state == "at work" and driver.last is None and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        driver = find_driver(results_dir)
    return driver
