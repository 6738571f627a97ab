"""Who works on a results folder, and how far: what ``--status`` shows of the driver, and ``--stop`` goes by.

The kernel tells whether a driver lives wherever it can: by the lock, on the driver's own machine and on file systems
that share locks between machines. Elsewhere, and in a copy of a bucket other than the driver's own, the heartbeat
tells: a fresh one is trusted; with an old one the count is watched for longer than a beat, so that a living driver is
never given up because two clocks disagree.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pipelines.driver.heartbeat_record import BEAT_SECONDS, Heartbeat, kernel_name, lock_name, read_heartbeat
from pipelines.driver.lock import LockOwner, lock_owner
from pipelines.text import duration

FRESH_SECONDS = 120.0  # network file systems may show a file a minute late
WATCH_SECONDS = 1.5 * BEAT_SECONDS
_POLL_SECONDS = 0.5
_MOST_RUNNING = 20
NO_DRIVER = "no driver is at work on this folder"


@dataclass(frozen=True)
class Driver:
    """The driver of a results folder.

    Attributes:
        state: ``none``: no driver was ever here; ``gone``: it ended without a last heartbeat.
        owner: the owner of the lock, if this machine sees it held.
        last: its last heartbeat.
    """

    state: Literal["none", "at work", "ended", "stopped", "gone"]
    owner: LockOwner | None = None
    last: Heartbeat | None = None


def find_driver(results_dir: Path, *, watch_seconds: float = WATCH_SECONDS) -> Driver:
    """Return who works on the results folder. Writes nothing; may watch an old heartbeat for ``watch_seconds``."""
    owner, last = lock_owner(results_dir), read_heartbeat(results_dir)
    if owner is not None:
        # until this driver has written one, the heartbeat is that of the driver before it
        own = last if last is not None and (last.pid, last.host) == (owner.pid, owner.host) else None
        return Driver("at work", owner, own)
    if last is None:
        return Driver("none")
    if last.state != "at work":
        return Driver(last.state, last=last)
    if _same_kernel(last) and last.lock and last.lock == lock_name(results_dir):
        # it may have written its last heartbeat since
        last = read_heartbeat(results_dir) or last
        return Driver("gone" if last.state == "at work" else last.state, last=last)
    if 0 <= age_seconds(last) <= FRESH_SECONDS:
        return Driver("at work", last=last)
    until = time.monotonic() + watch_seconds
    while True:
        again = read_heartbeat(results_dir) or last
        if (again.run, again.beat) != (last.run, last.beat):
            return Driver(again.state, last=again)
        if time.monotonic() >= until:
            return Driver("gone", last=last)
        time.sleep(_POLL_SECONDS)


def driver_lines(driver: Driver) -> list[str]:
    """Return lines about the driver: the first one is complete by itself, the others add to it."""
    last = driver.last
    if driver.owner is not None:
        return [f"at work: {driver.owner}", *(_progress_lines(last) if last is not None else [])]
    if last is None:
        return [NO_DRIVER]
    if driver.state == "gone":
        return [f"the driver ({last}) is gone, last heartbeat {_when(last)}; to resume: {last.command}"]
    if driver.state != "at work":
        how = "ended" if driver.state == "ended" else "ended with an error" if last.reason else "was stopped"
        why = f": {last.reason}" if last.reason else ""
        return [NO_DRIVER, f"  the last one ({last}) {how} {_when(last)}{why}"]
    seen = "seen by its heartbeat, not by its lock"
    return [f"at work: {last} since {last.started} ({last.command}); {seen}", *_progress_lines(last)]


def age_seconds(last: Heartbeat) -> float:
    """Return the age by this machine's clock; negative if the clocks disagree, -inf without a valid time."""
    try:
        written = datetime.fromisoformat(last.written)
        return (datetime.now(UTC) - written).total_seconds()
    except (ValueError, TypeError):  # no time, or one without a zone
        return -float("inf")


def _same_kernel(last: Heartbeat) -> bool:
    ours = kernel_name()
    return last.boot == ours if last.boot and ours else last.host == socket.gethostname()


def _when(last: Heartbeat) -> str:
    age = age_seconds(last)
    return f"at {last.written}" + (f" ({duration(age)} ago)" if age >= 0 else "")


def _progress_lines(last: Heartbeat) -> list[str]:
    parts = [f"last heartbeat {_when(last)}"]
    parts += [f"cluster {last.cluster}"] if last.cluster else []
    parts += [last.job] if last.job else []
    if last.counts:
        parts.append("of this run's trials " + ", ".join(f"{count} {state}" for state, count in last.counts.items()))
    parts += [f"about {duration(last.seconds_left)} left"] if last.seconds_left is not None else []
    lines = ["  " + "; ".join(parts)]
    for trial in last.running[:_MOST_RUNNING]:
        where = f" on {trial.host}" if trial.host else ""
        report = f", last report {duration(trial.silent_seconds)} before that"
        lines.append(
            f"  running: {trial.table}/{trial.row} seed {trial.seed}{where}, epoch {trial.epoch}/{trial.epochs}{report}"
        )
    more = len(last.running) - _MOST_RUNNING
    return [*lines, f"  and {more} more"] if more > 0 else lines
