"""Where results live, as the driver sees it: a folder that all machines see, its own folder only, or a bucket.

Whatever it is, ``results_dir`` is a plain folder in which the driver plans, reads, tracks and reports; of a bucket it
is a copy of the small files (``mirror``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from dnw_core.errors import UserError
from pipelines.driver import StopRequest, driver_lock
from pipelines.spec import TrialSpec
from pipelines.storage.staging import RemoteStaging, SharedFolder, Staging
from pipelines.store import Store

OnFinished = Callable[[TrialSpec], None]


class ResultsBackend(Protocol):
    """A place of results."""

    results_dir: Path

    def __str__(self) -> str:
        """Return the place, as a user names it."""

    def looking(self) -> AbstractContextManager[None]:
        """Have what there is in ``results_dir`` for the block, which only looks; raises UserError."""

    def driving(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Be the only driver for the block, with what there is in ``results_dir``.

        Raises:
            UserError: if another driver is at work (named), or the place cannot be used.
        """

    def open_store(self, *, create: bool = False, trust_unchanged: bool = False) -> Store:
        """See ``Store.open``; what is written is written to the place, too."""

    def refuse(self, specs: Sequence[TrialSpec]) -> None:
        """Refuse trials, placed on machines, that cannot be trained with results in such a place.

        Raises:
            UserError: names the first one's row.
        """

    def depot(self, stop: StopRequest) -> AbstractContextManager[Staging]:
        """Make the way on which trials reach the place; Ray is connected."""

    def following(self, on_finished: OnFinished | None) -> AbstractContextManager[OnFinished | None]:
        """Return what to call with each trial that ended, so that ``on_finished`` finds it in ``results_dir``."""

    def refresh(self) -> None:
        """Have what trials brought in ``results_dir``; raises UserError."""

    def publish(self) -> None:
        """Bring the report home; raises UserError."""


class SharedFolderBackend:
    """A folder that every machine sees."""

    def __init__(self, results_dir: Path) -> None:
        self.results_dir = results_dir

    def __str__(self) -> str:
        """See ``ResultsBackend``."""
        return str(self.results_dir)

    def looking(self) -> AbstractContextManager[None]:
        """See ``ResultsBackend``."""
        return contextlib.nullcontext()

    def driving(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """See ``ResultsBackend``."""
        return driver_lock(self.results_dir)

    def open_store(self, *, create: bool = False, trust_unchanged: bool = False) -> Store:
        """See ``ResultsBackend``."""
        return Store.open(self.results_dir, create=create, trust_unchanged=trust_unchanged)

    def refuse(self, specs: Sequence[TrialSpec]) -> None:
        """See ``ResultsBackend``."""

    def depot(self, stop: StopRequest) -> AbstractContextManager[Staging]:
        """See ``ResultsBackend``."""
        return contextlib.nullcontext(SharedFolder(stop.file))

    def following(self, on_finished: OnFinished | None) -> AbstractContextManager[OnFinished | None]:
        """See ``ResultsBackend``."""
        return contextlib.nullcontext(on_finished)

    def refresh(self) -> None:
        """See ``ResultsBackend``."""

    def publish(self) -> None:
        """See ``ResultsBackend``."""


class DriverFolderBackend(SharedFolderBackend):
    """A folder that the driver's machine alone sees; the others reach it through an actor there."""

    def refuse(self, specs: Sequence[TrialSpec]) -> None:
        """See ``ResultsBackend``."""
        refuse_across(specs, "--store head")

    @contextlib.contextmanager
    def depot(self, stop: StopRequest) -> Iterator[Staging]:
        """See ``ResultsBackend``."""
        from pipelines.storage.actor import store_actor

        with store_actor(self.results_dir, stop.folder) as carrier:
            yield RemoteStaging(carrier)


def refuse_across(specs: Sequence[TrialSpec], where: str) -> None:
    """Refuse trials whose workers part, where no folder is seen by all machines.

    Raises:
        UserError: names the first one's row.
    """
    for spec in specs:
        if spec.resources.across_nodes:
            raise UserError(
                f"{spec.table}/{spec.row} needs workers on several machines, which meet in a folder that all of them "
                f"see: it cannot be trained with {where}; give --results-dir on a shared disk, or fewer --workers"
            )
