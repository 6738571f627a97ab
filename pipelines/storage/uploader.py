"""Upload of what a running trial writes: checkpoints at once, the small files now and then.

A thread of the trial's process looks for changed files. The trial writes each file by a rename (only its log grows), so
a file that is opened is whole; it may write them in worker processes, which could not call a hook here. The log goes
before the checkpoint, so that a log that comes back covers all that was trained. While the results are out of reach
the trial goes on training, and the newest state is uploaded afterwards; only the last upload, at the trial's end,
must succeed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dnw_core.record import CHECKPOINT_FILE, PREVIOUS_FILE
from pipelines.spec import TrialSpec
from pipelines.storage.background import every
from pipelines.storage.transport import Transport, retry
from pipelines.store import is_plain
from pipelines.trial import LOCK_FILE

_LOOK_SECONDS = 0.3
_SMALL_SECONDS = 10.0  # progress and log change with every epoch
_AWAY_SECONDS = 5.0
_STOP_SECONDS = 2.0
_LEFT_OUT = (PREVIOUS_FILE, LOCK_FILE)  # uploaded when it was the newest; a lock is of this machine

_Mark = tuple[int, int, int]


class CheckpointUploader:
    """Uploads the files of one trial; ``finish`` uploads what is left once ``running`` has ended.

    Args:
        transport: reaches the results.
        spec: the trial.
        folder: its working folder here; the files in it now came from the results.
        aside: another folder on the same disk, for this thread alone; made here.
    """

    def __init__(self, transport: Transport, spec: TrialSpec, folder: Path, aside: Path) -> None:
        self._transport = transport
        self._spec = spec
        self._folder = folder
        self._held = aside / CHECKPOINT_FILE
        aside.mkdir()
        self._known = self._marks()
        self._look_at = self._small_at = 0.0

    def running(self) -> contextlib.AbstractContextManager[None]:
        """Upload in a thread for the block."""
        return every(_LOOK_SECONDS, self._look, "uploader")

    def finish(self, patience: float) -> None:
        """Upload all that changed since it was last uploaded.

        Raises:
            StorageUnreachableError: if that does not succeed within ``patience`` seconds.
        """
        retry(lambda: self._upload(small=True), f"bringing {self._spec.trial_id} to the results", patience)

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _AWAY_SECONDS  # unless this succeeds
        small = now >= self._small_at
        self._upload(small=small)
        self._look_at = 0.0
        if small:
            self._small_at = time.monotonic() + _SMALL_SECONDS

    def _upload(self, *, small: bool) -> None:
        marks = self._marks()
        changed = [name for name in sorted(marks) if marks[name] != self._known.get(name)]
        new = CHECKPOINT_FILE in changed and self._hold()
        for name in changed if small or new else ():
            if name != CHECKPOINT_FILE:
                self._deliver(name, self._folder / name, marks[name])
        if new:
            self._deliver(CHECKPOINT_FILE, self._held, marks[CHECKPOINT_FILE])

    def _deliver(self, name: str, path: Path, mark: _Mark) -> None:
        try:
            self._transport.deliver(self._spec, name, path)
        except FileNotFoundError:
            if path.exists():
                raise
            return  # the trial has just ended and moved it
        self._known[name] = mark

    def _hold(self) -> bool:
        """Keep the checkpoint of this moment, whatever replaces it; False if it was moved away just now."""
        self._held.unlink(missing_ok=True)
        try:
            os.link(self._folder / CHECKPOINT_FILE, self._held)
        except FileNotFoundError:
            return False
        return True

    def _marks(self) -> dict[str, _Mark]:
        """Return what changes with a file, of every file that is uploaded (not its ctime: ``_hold`` changes that)."""
        marks: dict[str, _Mark] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if is_plain(entry.name) and entry.name not in _LEFT_OUT and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    marks[entry.name] = status.st_ino, status.st_size, status.st_mtime_ns
        return marks


@contextlib.contextmanager
def stop_poller(transport: Transport) -> Iterator[Callable[[], bool]]:
    """Ask every two seconds for the block whether all trials should stop; yields what tells the last answer."""
    wanted = False

    def ask() -> None:
        nonlocal wanted
        wanted = wanted or transport.stop_wanted()

    with contextlib.suppress(OSError):  # out of reach for a moment: not a request
        ask()
    with every(_STOP_SECONDS, ask, "stop"):
        yield lambda: wanted
