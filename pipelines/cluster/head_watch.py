"""Ends the driver with one line when the cluster's head is gone.

Ray itself tries for a minute to reach the head again and then ends the process from within, past all of Python, with
a message of its own. So a thread tries the head's port, and shortly before that minute is over the driver says what
has happened and ends. Nothing is lost: what was finished is in the store, the rest has checkpoints.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

from pipelines.cluster.ray_internals import RECONNECT_SECONDS, RECONNECT_VARIABLE

LOST = 1
"""The exit code: something is missing."""

_PERIOD_SECONDS = 3.0
_SHARE = 0.75  # of the time after which Ray ends the process


@contextlib.contextmanager
def head_watch(address: str, resume: str) -> Iterator[None]:
    """End this process with exit code 1 and one line if the head at ``address`` does not answer for long.

    Args:
        address: the head's ``host:port``.
        resume: the command that continues when a cluster is there again, for the line.
    """
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(address, resume, done, patience()), name="head-watch", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def patience() -> float:
    """Return after how many seconds without an answer the head counts as gone: before Ray ends the process."""
    try:
        return _SHARE * float(os.environ[RECONNECT_VARIABLE])
    except (KeyError, ValueError):
        return _SHARE * RECONNECT_SECONDS


def answers(address: str, limit: float = 2.0) -> bool:
    """Whether something listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=limit).close()
    except OSError:
        return False
    return True


def _watch(address: str, resume: str, done: threading.Event, limit: float) -> None:
    last = time.monotonic()
    while not done.wait(_PERIOD_SECONDS):
        if answers(address):
            last = time.monotonic()
        elif time.monotonic() - last >= limit and not done.is_set():
            _end(address, resume, limit)


def _end(address: str, resume: str, limit: float) -> None:
    print(
        f"\nerror: the head of the Ray cluster at {address} has not answered for {limit:.0f} s, and nothing can go on "
        f"without it; finished trials are kept. When a cluster is there again: {resume}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST)  # the main thread waits within Ray, for an answer that never comes
