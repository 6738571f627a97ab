"""Who works on a results folder, and how far: what ``--status`` says of the driver, and ``--stop`` goes by.

Whether a driver lives is told by the kernel wherever it can be: by the lock, on the driver's own machine and on file
systems that share locks between machines. Elsewhere, and in another copy of a bucket than the driver's own, its
heartbeat tells: a fresh one is believed; of an old one the count is watched for longer than a beat, so that two clocks
that disagree bury no living driver.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
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


@dataclass(frozen=True)
class Driver:
    """The driver of a results folder.

    Attributes:
        state: ``none`` was ever seen here; ``gone``: it ended without a word.
        owner: who holds the lock, where this machine sees it held.
        said: its last word.
    """

    state: Literal["none", "at work", "ended", "stopped", "gone"]
    owner: LockOwner | None = None
    said: Heartbeat | None = None


def find_driver(
    results_dir: Path,
    *,
    read: Callable[[], Heartbeat | None] | None = None,
    watch_seconds: float = WATCH_SECONDS,
) -> Driver:
    """Return who works on the results folder. Writes nothing; may watch for ``watch_seconds``.

    Args:
        results_dir: the folder.
        read: reads the heartbeat anew, where it does not lie in that folder.
        watch_seconds: how long an old heartbeat is watched before its driver is given up.
    """
    read = read or (lambda: read_heartbeat(results_dir))
    owner, said = lock_owner(results_dir), read()
    if owner is not None:
        # the heartbeat of the driver before it, for the moment until this one has spoken
        mine = said if said is not None and (said.pid, said.host) == (owner.pid, owner.host) else None
        return Driver("at work", owner, mine)
    if said is None:
        return Driver("none")
    if said.state != "at work":
        return Driver(said.state, said=said)
    if _same_kernel(said) and said.lock and said.lock == lock_name(results_dir):
        # it may have spoken its last word since it was read
        last = read() or said
        return Driver("gone" if last.state == "at work" else last.state, said=last)
    if 0 <= age_seconds(said) <= FRESH_SECONDS:
        return Driver("at work", said=said)
    until = time.monotonic() + watch_seconds
    while True:
        again = read() or said
        if (again.run, again.beat) != (said.run, said.beat):
            return Driver(again.state, said=again)
        if time.monotonic() >= until:
            return Driver("gone", said=said)
        time.sleep(_POLL_SECONDS)


def driver_lines(driver: Driver) -> list[str]:
    """Return what there is to say of the driver: the first line stands alone, the others tell more."""
    said = driver.said
    if driver.state == "none" or (said is None and driver.owner is None):
        return ["no driver is at work on this folder"]
    if driver.state == "gone":
        assert said is not None
        return [f"the driver ({said}) is gone, last heartbeat {_when(said)}; to resume: {said.command}"]
    if driver.state != "at work":
        assert said is not None
        how = "ended" if driver.state == "ended" else "ended with an error" if said.reason else "was stopped"
        why = f": {said.reason}" if said.reason else ""
        return ["no driver is at work on this folder", f"  the last one ({said}) {how} {_when(said)}{why}"]
    if driver.owner is not None:
        return [f"at work: {driver.owner}", *(_progress_lines(said) if said is not None else [])]
    assert said is not None
    unseen = "; its lock is not seen from here, its heartbeat is"
    return [f"at work: {said} since {said.started} ({said.command}){unseen}", *_progress_lines(said)]


def age_seconds(said: Heartbeat) -> float:
    """Return how old the heartbeat is by this machine's clock; negative where the clocks disagree, or -inf."""
    try:
        written = datetime.fromisoformat(said.written)
        return (datetime.now(UTC) - written).total_seconds()
    except (ValueError, TypeError):  # no time, or one of nowhere
        return -float("inf")


def _same_kernel(said: Heartbeat) -> bool:
    ours = kernel_name()
    return said.boot == ours if said.boot and ours else said.host == socket.gethostname()


def _when(said: Heartbeat) -> str:
    age = age_seconds(said)
    return f"at {said.written}" + (f" ({duration(age)} ago)" if age >= 0 else "")


def _progress_lines(said: Heartbeat) -> list[str]:
    words = [f"last heartbeat {_when(said)}"]
    words += [f"cluster {said.cluster}"] if said.cluster else []
    words += [said.job] if said.job else []
    if said.counts:
        words.append("of this run's trials " + ", ".join(f"{count} {state}" for state, count in said.counts.items()))
    words += [f"about {duration(said.seconds_left)} left"] if said.seconds_left is not None else []
    lines = ["  " + "; ".join(words)]
    for trial in said.running[:_MOST_RUNNING]:
        where = f" on {trial.host}" if trial.host else ""
        heard = f", last heard of {duration(trial.silent_seconds)} before that"
        lines.append(
            f"  running: {trial.table}/{trial.row} seed {trial.seed}{where}, epoch {trial.epoch}/{trial.epochs}{heard}"
        )
    more = len(said.running) - _MOST_RUNNING
    return [*lines, f"  and {more} more"] if more > 0 else lines
