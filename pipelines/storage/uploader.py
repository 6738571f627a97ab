"""Carries what a running trial leaves behind home: checkpoints as they are written, the small files now and then.

A thread of the trial's process. The trial writes each file by a rename (only its log grows), so a file that is opened
is whole. The log goes before the checkpoint, so that a log that comes back tells of all that was trained. While the
store is away the trial goes on training, and the newest state is carried once it is back; only at the trial's end is
the last delivery insisted on.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from dnw_core.record import CHECKPOINT_FILE
from pipelines.spec import TrialSpec
from pipelines.storage.transport import Transport, retry
from pipelines.store import is_plain
from pipelines.trial import LOCK_FILE

_LOOK_SECONDS = 0.3
_SMALL_SECONDS = 10.0  # progress and log change with every epoch
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_STOP_SECONDS = 2.0
_LEFT_OUT = ("checkpoint.previous.pt", LOCK_FILE)  # delivered when it was the newest; a lock is of this machine

_Mark = tuple[int, int, int]


class CheckpointUploader:
    """Use as a context, which ends the thread; ``finish`` after it delivers what is left.

    Args:
        transport: reaches the results.
        spec: the trial.
        folder: its working folder here. What lies there now is known at home.
        aside: another folder on the same disk, for this thread alone; made here.
    """

    def __init__(self, transport: Transport, spec: TrialSpec, folder: Path, aside: Path) -> None:
        self._transport = transport
        self._spec = spec
        self._folder = folder
        self._held = aside / CHECKPOINT_FILE
        aside.mkdir()
        self._known = self._marks()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="uploader", daemon=True)

    def __enter__(self) -> CheckpointUploader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def finish(self, patience: float) -> None:
        """Deliver all that changed since it was last delivered.

        Raises:
            StorageUnreachableError: if that does not succeed within ``patience`` seconds.
        """
        retry(lambda: self._round(small=True), f"bringing {self._spec.trial_id} to the results", patience)

    def _work(self) -> None:
        pause, small_at = _LOOK_SECONDS, 0.0
        while not self._ended.wait(pause):
            small = time.monotonic() >= small_at
            try:
                self._round(small=small)
            except OSError:  # away for now: the trial goes on
                pause = min(2 * max(pause, _FIRST_PAUSE), _LONGEST_PAUSE)
                continue
            pause = _LOOK_SECONDS
            if small:
                small_at = time.monotonic() + _SMALL_SECONDS

    def _round(self, *, small: bool) -> None:
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
        """Return what tells whether a file is still the one that it was, of every file that is to be carried."""
        marks: dict[str, _Mark] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if is_plain(entry.name) and entry.name not in _LEFT_OUT and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    marks[entry.name] = status.st_ino, status.st_size, status.st_mtime_ns
        return marks


class StopPoller:
    """Asks the store every two seconds, in a thread, whether the trial should stop. Use as a context and a function."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._wanted = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="stop", daemon=True)

    def __enter__(self) -> StopPoller:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self) -> bool:
        """Whether the trial should stop."""
        return self._wanted

    def _work(self) -> None:
        while not self._wanted and not self._ended.wait(_STOP_SECONDS):
            self._look()

    def _look(self) -> None:
        with contextlib.suppress(OSError):  # a store that is away for a moment is no request
            self._wanted = self._transport.stop_wanted()
