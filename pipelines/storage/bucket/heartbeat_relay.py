"""A driver's sign of life and the request to stop, between the copy of a bucket's results and the bucket.

``heartbeat``, ``status`` and ``stop_command`` know two files of a results folder. Here a thread carries them: the
driver's heartbeat into the bucket and the request out of it where the driver is, the other way round where somebody
looks.
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
_LOOK_SECONDS = 1.0


class _Post:
    """Carries one file each way."""

    def __init__(self, bucket: Bucket, folder: Path, *, out: str, into: str) -> None:
        self._bucket, self._folder = bucket, folder
        self._out, self._into = out, into
        self._sent: bytes | None = None
        self._got: bytes | None = None

    def carry(self) -> None:
        """Carry what changed.

        Raises:
            OSError: if the bucket cannot be reached.
        """
        content = self._read(self._folder / self._out)
        if content is not None and content != self._sent:
            self._bucket.put(f"drivers/{self._out}", content)
            self._sent = content
        try:
            content = self._bucket.get(f"drivers/{self._into}")
        except FileNotFoundError:
            return
        if content != self._got:
            received = content
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / self._into, lambda temporary: temporary.write_bytes(received))
            self._got = content

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except OSError:
            return None


@contextlib.contextmanager
def _carrying(post: _Post, seconds: float) -> Iterator[None]:
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            with contextlib.suppress(OSError):  # away for now
                post.carry()

    thread = threading.Thread(target=work, name="post", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):  # the last word
            post.carry()


@contextlib.contextmanager
def post_of_driver(bucket: Bucket, folder: Path) -> Iterator[None]:
    """Let the driver's heartbeat be seen in the bucket for the block, and requests to stop be heard."""
    with contextlib.suppress(OSError):
        bucket.delete(f"drivers/{STOP_FILE}")  # meant for a driver that is gone
    with _carrying(_Post(bucket, folder, out=HEARTBEAT_FILE, into=STOP_FILE), _DRIVER_SECONDS):
        yield


@contextlib.contextmanager
def post_of_looker(bucket: Bucket, folder: Path) -> Iterator[None]:
    """Show the driver's heartbeat in the copy for the block, and send requests to stop; raises OSError.

    A driver on this machine has the same copy: then there is nothing to carry.
    """
    if lock_owner(folder) is not None:
        yield
        return
    with contextlib.suppress(OSError):
        (folder / STOP_FILE).unlink(missing_ok=True)
    post = _Post(bucket, folder, out=STOP_FILE, into=HEARTBEAT_FILE)
    post.carry()
    with _carrying(post, _LOOK_SECONDS):
        yield
