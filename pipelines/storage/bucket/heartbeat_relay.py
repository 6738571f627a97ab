"""The driver's heartbeat and the request to stop, relayed between a bucket and the local copy of its results.

The driver's modules know two files of a results folder. Here a thread copies them: at the driver the heartbeat goes to
the bucket and the request comes from it, at a reader the other way round.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from dnw_core.files import write_atomically
from pipelines.driver import lock_owner
from pipelines.storage.bucket.client import Bucket
from pipelines.store import HEARTBEAT_FILE, STOP_FILE

_DRIVER_SECONDS = 2.0
_READER_SECONDS = 1.0


class HeartbeatRelay:
    """Copies one file each way, every few seconds while it is used as a context and once more at its end."""

    def __init__(self, bucket: Bucket, folder: Path, *, out: str, into: str, seconds: float) -> None:
        self._bucket, self._folder = bucket, folder
        self._out, self._into, self._seconds = out, into, seconds
        self._sent: bytes | None = None
        self._received: bytes | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="relay", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
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

    def _work(self) -> None:
        while not self._ended.wait(self._seconds):
            with contextlib.suppress(OSError):  # away for now
                self.copy()


def relay_for_driver(bucket: Bucket, folder: Path) -> HeartbeatRelay:
    """Return what shows the driver's heartbeat in the bucket, and brings requests to stop from there."""
    with contextlib.suppress(OSError):
        bucket.delete(f"drivers/{STOP_FILE}")  # meant for a driver that is gone
    return HeartbeatRelay(bucket, folder, out=HEARTBEAT_FILE, into=STOP_FILE, seconds=_DRIVER_SECONDS)


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
    relay = HeartbeatRelay(bucket, folder, out=STOP_FILE, into=HEARTBEAT_FILE, seconds=_READER_SECONDS)
    relay.copy()
    with relay:
        yield
