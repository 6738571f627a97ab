"""Transport of a trial's files between the results and a machine that does not see the results folder."""

from __future__ import annotations

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dnw_core.errors import DnwError
from pipelines.spec import TrialSpec

Result = TypeVar("Result")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of this machine: no bucket's error has such a number


class Transport(ABC):
    """Reaches the results from anywhere. Goes to the trial's process by pickle; used by several threads there.

    Every method raises OSError while the results are out of reach; it may then be called again.
    """

    @abstractmethod
    def fetch(self, spec: TrialSpec, into: Path, *, work: bool) -> None:
        """Copy a finished trial, or one that is not finished (``work``), into a folder, made if there is anything.

        Nothing is verified as a result here, but a checkpoint that is not what was delivered is left out.
        """

    @abstractmethod
    def deliver(self, spec: TrialSpec, name: str, path: Path) -> None:
        """Replace one file of a trial that is not finished."""

    @abstractmethod
    def commit(self, spec: TrialSpec, folder: Path) -> bool:
        """Make a finished trial's folder the result; False if the trial was finished elsewhere, which stays."""

    @abstractmethod
    def stop_wanted(self) -> bool:
        """Whether all trials are asked to stop."""

    @abstractmethod
    def write_marker(self, name: str, text: str) -> None:
        """Write a text under a name, for other machines to read."""

    @abstractmethod
    def read_marker(self, name: str) -> str:
        """Return the text that was written under a name."""


class StorageUnreachableError(DnwError, OSError):
    """The results were out of reach for longer than was waited."""


def retry(
    act: Callable[[], Result], what: str, patience: float, wait: Callable[[float], object] = time.sleep
) -> Result:
    """Call ``act`` until it raises no OSError, with growing pauses; a full disk is not waited for.

    Args:
        act: the attempt.
        what: names it in the message.
        patience: seconds after which no further attempt is made.
        wait: pauses for so many seconds.

    Raises:
        StorageUnreachableError: if it did not succeed within ``patience``; it says why.
        OSError: if a disk of this machine is full or read-only.
    """
    begun, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            return act()
        except OSError as error:
            if error.errno in _NO_DISK:
                raise
            if time.monotonic() - begun + pause > patience:
                why = " ".join(str(error).split())[:300]
                raise StorageUnreachableError(f"{what} did not succeed within {patience:.0f} s: {why}") from None
        wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
