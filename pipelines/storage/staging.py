"""Trials on machines that do not see the results: trained in a private folder there, brought home by a carrier.

The folder is a small results folder of its own, so that what trains, resumes, records failures and commits is the
same code as everywhere. It holds what was brought of this trial and of the one it starts from, and goes at the end.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from dnw_core.errors import DnwError, UserError
from pipelines.driver import StopWatch
from pipelines.private_folder import private_folder
from pipelines.spec import TrialSpec
from pipelines.storage.bucket.client import explain
from pipelines.storage.transport import StorageUnreachableError, Transport, insist
from pipelines.storage.uploader import CheckpointUploader, StopPoller
from pipelines.store import Store
from pipelines.trial import parent_spec

PATIENCE_SECONDS = 900.0
_PREFIX = "dnw-trial-"
_DRIVER = "driver"


class RemoteStaging:
    """See ``Staging``.

    Args:
        carrier: reaches the results from anywhere.
        patience: seconds for which a trial waits for results that are out of reach, before it begins and at its end.
    """

    def __init__(self, carrier: Transport, patience: float = PATIENCE_SECONDS) -> None:
        self._carrier = carrier
        self._patience = patience

    @property
    def stop_file(self) -> Path | None:
        """No file is seen by every machine."""
        return None

    def __str__(self) -> str:
        return str(self._carrier)

    def leave(self, word: str) -> None:
        """In the driver: leave a word where the results live, for other machines to find.

        Raises:
            UserError: if that fails.
        """
        try:
            self._carrier.leave(_DRIVER, word)
        except OSError as error:
            raise UserError(f"{self} cannot be written to: {explain(error)}") from None

    def probe(self, word: str, node: str) -> str:
        """On another machine: read the word and leave it there under the machine's name; return what is wrong."""
        try:
            found = self._carrier.hear(_DRIVER)
            self._carrier.leave(node, found)
        except OSError as error:
            return f"it does not reach {self}: {explain(error)}"
        return "" if found == word else f"it does not see what the driver wrote to {self}"

    def heard(self, word: str, node: str) -> bool:
        """In the driver: whether what that machine left is there."""
        try:
            return self._carrier.hear(node) == word
        except OSError:
            return False

    @contextlib.contextmanager
    def open(self, spec: TrialSpec) -> Iterator[StagedTrial]:
        """Train in a folder of this machine.

        Raises:
            NodeUnusableError: if this machine does not reach the results, before anything is trained.
            StorageUnreachableError: if what came of it cannot be brought home for longer than is waited.
        """
        assert not spec.resources.across_nodes, "workers on several machines meet in a folder that all of them see"
        with private_folder(_PREFIX) as folder:
            store = Store.open(folder / "results", create=True)
            here = spec.model_copy(update={"results_dir": store.results_dir})
            self._begin(here, store)
            if store.state(here).kind == "done":
                yield StagedTrial(here, lambda: False)
                return
            courier = CheckpointUploader(self._carrier, here, store.work_folder(here), folder / "courier")
            try:
                with courier, StopPoller(self._carrier) as should_stop:
                    yield StagedTrial(here, should_stop)
            finally:
                self._bring_home(here, store, courier)

    def _begin(self, spec: TrialSpec, store: Store) -> None:
        """Bring the finished trial, or else what there is of it and the finished trial that it starts from."""
        try:
            self._fetch(spec, store.folder(spec), work=False)
            if store.state(spec).kind == "done":
                return
            shutil.rmtree(store.folder(spec), ignore_errors=True)  # damaged: the driver sets the original aside
            self._fetch(spec, store.work_folder(spec), work=True)
            parent = parent_spec(spec)
            if parent is not None:
                self._fetch(parent, store.folder(parent), work=False)
        except StorageUnreachableError as error:
            raise NodeUnusableError(f"node {platform.node()}: {error}") from None

    def _fetch(self, spec: TrialSpec, into: Path, *, work: bool) -> None:
        insist(
            lambda: self._carrier.fetch(spec, into, work=work),
            f"reading {spec.trial_id} from {self._carrier}",
            self._patience / 3,
        )

    def _bring_home(self, spec: TrialSpec, store: Store, courier: CheckpointUploader) -> None:
        if store.folder(spec).is_dir():
            insist(
                lambda: self._carrier.commit(spec, store.folder(spec)),
                f"bringing the finished {spec.trial_id} to {self._carrier}",
                self._patience,
            )
        else:
            courier.finish(self._patience)


class NodeUnusableError(DnwError):
    """This machine cannot train the trial, although others can; names it and says why."""


class StagedTrial(NamedTuple):
    """Where a trial is trained, in the process that trains it."""

    spec: TrialSpec  # its ``results_dir`` is a folder that this machine sees
    should_stop: Callable[[], bool]  # whether somebody asked all trials to stop


class Staging(Protocol):
    """Goes to the trial's process through pickle."""

    @property
    def stop_file(self) -> Path | None:
        """The file that asks trials to stop, where every machine sees it; else None."""

    def open(self, spec: TrialSpec) -> AbstractContextManager[StagedTrial]:
        """Have the trial at this machine for the block, and have what came of it in the store after it.

        However the block ends: a finished trial is committed, of any other one checkpoint, progress, log and the
        record of a failure are in the store.
        """


class SharedFolder:
    """The results folder is on a disk that every machine sees under the same path.

    Args:
        stop_file: asks all trials to stop.
    """

    def __init__(self, stop_file: Path) -> None:
        self._stop_file = stop_file

    @property
    def stop_file(self) -> Path:
        """The file that asks trials to stop."""
        return self._stop_file

    @contextlib.contextmanager
    def open(self, spec: TrialSpec) -> Iterator[StagedTrial]:
        """Train where the results lie."""
        yield StagedTrial(spec, StopWatch(self._stop_file))
