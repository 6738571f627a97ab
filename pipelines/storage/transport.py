"""What brings a trial's files home from a machine that does not see the results folder, and how often that is tried."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from dnw_core.errors import DnwError
from pipelines.spec import TrialSpec

Result = TypeVar("Result")

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of this machine: no bucket's error has such a number


class Transport(Protocol):
    """Reaches the results from anywhere. Goes to the trial's process by pickle; used by several threads there.

    Every method raises OSError while the results are out of reach; it may then be called again.
    """

    def fetch(self, spec: TrialSpec, into: Path, *, work: bool) -> None:
        """Bring what there is of a trial into a folder (made if there is anything): finished, or not yet (``work``).

        Nothing of it is verified as a result here, but a checkpoint that is not what was delivered is left out.
        """

    def deliver(self, spec: TrialSpec, name: str, path: Path) -> None:
        """Put one file of a trial that is not finished in the place of the one that was delivered before."""

    def commit(self, spec: TrialSpec, folder: Path) -> bool:
        """Make a finished trial's folder the result; False if the same trial was finished elsewhere, which stands."""

    def stop_wanted(self) -> bool:
        """Whether all trials are asked to stop."""

    def leave(self, name: str, word: str) -> None:
        """Leave a word for other machines under a name."""

    def hear(self, name: str) -> str:
        """Return the word that was left under a name."""


class StorageUnreachableError(DnwError, OSError):
    """The results were out of reach for longer than was waited."""


def insist(
    act: Callable[[], Result], what: str, patience: float, wait: Callable[[float], object] = time.sleep
) -> Result:
    """Call ``act`` until it raises no OSError any more, with growing pauses; a disk that is full is not waited for.

    Args:
        act: what is wanted.
        what: names it in the message.
        patience: seconds after which no further attempt is made.
        wait: pauses for so many seconds.

    Raises:
        StorageUnreachableError: if it did not work within ``patience``; it says why.
        OSError: of a disk that takes nothing.
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
