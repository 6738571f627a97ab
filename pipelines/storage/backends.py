"""Where results are, as the driver sees it: a folder that all machines see, its own folder only, or a bucket.

``results_dir`` is always a plain folder in which the driver plans, reads, tracks and reports; for a bucket it is a
copy of the small files (``bucket.mirror``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from typing_extensions import override

from dnw_core.errors import UserError
from pipelines.driver import StopRequest, driver_lock
from pipelines.spec import TrialSpec
from pipelines.storage.staging import RemoteStaging, SharedFolder, Staging
from pipelines.store import Store

OnFinished = Callable[[TrialSpec], None]


class ResultsBackend:
    """A place of results; what a plain folder needs nothing for does nothing here."""

    def __init__(self, results_dir: Path) -> None:
        self.results_dir = results_dir

    def __str__(self) -> str:
        """Return the place, as a user names it."""
        return str(self.results_dir)

    def reading(self) -> AbstractContextManager[None]:
        """Have the results in ``results_dir`` for the block, which only reads; raises UserError."""
        return contextlib.nullcontext()

    def exclusive(self, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Be the only driver for the block, with the results in ``results_dir``.

        Raises:
            UserError: if another driver is at work (named), or the place cannot be used.
        """
        return driver_lock(self.results_dir)

    def open_store(self, *, create: bool = False, trust_unchanged: bool = False) -> Store:
        """Open the store (arguments: ``Store.open``); what it writes reaches the place, too."""
        return Store.open(self.results_dir, create=create, trust_unchanged=trust_unchanged)

    def refuse(self, specs: Sequence[TrialSpec]) -> None:
        """Refuse trials, placed on machines, that cannot be trained with results in such a place.

        Raises:
            UserError: names the first one's row.
        """

    def staging(self, stop: StopRequest) -> AbstractContextManager[Staging]:
        """Yield how trials reach the place; Ray is connected."""
        return contextlib.nullcontext(SharedFolder(stop.file))

    def notify_when_local(self, on_finished: OnFinished | None) -> AbstractContextManager[OnFinished | None]:
        """Yield what to call with each trial that ended; it calls ``on_finished`` once ``results_dir`` has it."""
        return contextlib.nullcontext(on_finished)

    def refresh(self) -> None:
        """Bring ``results_dir`` up to date with what trials delivered; raises UserError."""

    def publish(self) -> None:
        """Copy the report to the place; raises UserError."""


class SharedFolderBackend(ResultsBackend):
    """A folder that every machine sees."""


class DriverFolderBackend(ResultsBackend):
    """A folder that the driver's machine alone sees; the others reach it through an actor there."""

    @override
    def refuse(self, specs: Sequence[TrialSpec]) -> None:
        refuse_across(specs, "--store head")

    @override
    @contextlib.contextmanager
    def staging(self, stop: StopRequest) -> Iterator[Staging]:
        from pipelines.storage.actor import store_actor

        with store_actor(self.results_dir, stop.folder) as transport:
            yield RemoteStaging(transport)


def refuse_across(specs: Sequence[TrialSpec], where: str) -> None:
    """Refuse trials with workers on several machines, where no folder is seen by all machines.

    Raises:
        UserError: names the first one's row.
    """
    for spec in specs:
        if spec.resources.across_nodes:
            raise UserError(
                f"{spec.table}/{spec.row} needs workers on several machines, which meet in a folder that all of them "
                f"see: it cannot be trained with {where}; give --results-dir on a shared disk, or fewer --workers"
            )
