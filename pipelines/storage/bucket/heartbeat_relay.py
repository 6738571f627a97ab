"""The driver's heartbeat and the request to stop, relayed between a bucket and the local copy of its results.

The driver's modules know two files of a results folder. Here a thread copies them: at the driver the heartbeat goes to
the bucket and the request comes from it, at a reader the other way round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dnw_core.files import write_atomically
from pipelines.driver import lock_owner
from pipelines.storage.background import every
from pipelines.storage.bucket.client import Bucket
from pipelines.store import HEARTBEAT_FILE, STOP_FILE

_DRIVER_SECONDS = 2.0
_READER_SECONDS = 1.0


class HeartbeatRelay:
    """Copies one file each way."""

    def __init__(self, bucket: Bucket, folder: Path, *, out: str, into: str) -> None:
        self._bucket, self._folder = bucket, folder
        self._out, self._into = out, into
        self._sent: bytes | None = None
        self._received: bytes | None = None

    @contextlib.contextmanager
    def running(self, seconds: float) -> Iterator[None]:
        """Copy every ``seconds`` for the block, and once more at its end."""
        try:
            with every(seconds, self.copy, "relay"):
                yield
        finally:
            with contextlib.suppress(OSError):
                self.copy()

    def copy(self) -> None:
        """Copy what changed; raises OSError while the bucket cannot be reached."""
        with contextlib.suppress(FileNotFoundError):
            content = (self._folder / self._out).read_bytes()
            if content != self._sent:
                self._bucket.put(f"drivers/{self._out}", content)
                self._sent = content
        try:
            received = self._bucket.get(f"drivers/{self._into}")
        except FileNotFoundError:
            return
        if received != self._received:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / self._into, lambda temporary: temporary.write_bytes(received))
            self._received = received


@contextlib.contextmanager
def relay_for_driver(bucket: Bucket, folder: Path) -> Iterator[None]:
    """Show the driver's heartbeat in the bucket for the block, and fetch requests to stop from there."""
    with contextlib.suppress(OSError):
        bucket.delete(f"drivers/{STOP_FILE}")  # meant for a driver that is gone
    with HeartbeatRelay(bucket, folder, out=HEARTBEAT_FILE, into=STOP_FILE).running(_DRIVER_SECONDS):
        yield


@contextlib.contextmanager
def relay_for_reader(bucket: Bucket, folder: Path) -> Iterator[None]:
    """Show the driver's heartbeat in the copy for the block, and send requests to stop; raises OSError.

    A driver on this machine uses the same copy, and nothing needs to be relayed.
    """
    if lock_owner(folder) is not None:
        yield
        return
    with contextlib.suppress(OSError):
        (folder / STOP_FILE).unlink(missing_ok=True)
    relay = HeartbeatRelay(bucket, folder, out=STOP_FILE, into=HEARTBEAT_FILE)
    relay.copy()
    with relay.running(_READER_SECONDS):
        yield
