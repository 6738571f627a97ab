"""Staging of trials on machines that do not see the results: trained in a private folder, copied back by a transport.

The private folder is a small results folder of its own, so that training, resuming, recording failures and committing
are the same code everywhere. It holds this trial and the one it starts from, and is removed at the end.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from dnw_core.errors import DnwError, UserError
from pipelines.driver import StopWatch
from pipelines.private_folder import private_folder
from pipelines.spec import TrialSpec
from pipelines.storage.bucket.client import explain
from pipelines.storage.transport import StorageUnreachableError, Transport, retry
from pipelines.storage.uploader import CheckpointUploader, stop_poller
from pipelines.store import Store
from pipelines.trial import parent_spec

PATIENCE_SECONDS = 900.0
_PREFIX = "dnw-trial-"
_DRIVER = "driver"


class NodeUnusableError(DnwError):
    """This machine cannot train the trial, although others can; names it and says why."""


class StagedTrial(NamedTuple):
    """Where a trial is trained, in the process that trains it."""

    spec: TrialSpec  # its ``results_dir`` is a folder that this machine sees
    should_stop: Callable[[], bool]  # whether somebody asked all trials to stop


class Staging(ABC):
    """Brings a trial to the machine that trains it, and its outcome back. Goes to the trial's process by pickle."""

    stop_file: Path | None = None
    """The file that asks trials to stop, if every machine sees it."""

    @abstractmethod
    def open(self, spec: TrialSpec) -> AbstractContextManager[StagedTrial]:
        """Have the trial on this machine for the block, and its outcome in the store after it.

        However the block ends, a finished trial is committed; of any other one the store has a checkpoint, progress,
        log and the record of a failure.
        """


class SharedFolder(Staging):
    """The results folder is on a disk that every machine sees under the same path, and trials train in it.

    Args:
        stop_file: asks all trials to stop.
    """

    def __init__(self, stop_file: Path) -> None:
        self._stop_file = self.stop_file = stop_file

    @override
    @contextlib.contextmanager
    def open(self, spec: TrialSpec) -> Iterator[StagedTrial]:
        yield StagedTrial(spec, StopWatch(self._stop_file))


class RemoteStaging(Staging):
    """Trials train in a private folder of their machine.

    Args:
        transport: reaches the results from anywhere.
        patience: seconds for which a trial waits for results that are out of reach, before it begins and at its end.
    """

    def __init__(self, transport: Transport, patience: float = PATIENCE_SECONDS) -> None:
        self._transport = transport
        self._patience = patience

    def __str__(self) -> str:
        return str(self._transport)

    def write_marker(self, text: str) -> None:
        """In the driver: write a text beside the results, for other machines to find.

        Raises:
            UserError: if that fails.
        """
        try:
            self._transport.write_marker(_DRIVER, text)
        except OSError as error:
            raise UserError(f"{self} cannot be written to: {explain(error)}") from None

    def probe(self, text: str, node: str) -> str:
        """On another machine: read the driver's text and write it again under the machine's name.

        Returns:
            What is wrong, or nothing.
        """
        try:
            found = self._transport.read_marker(_DRIVER)
            self._transport.write_marker(node, found)
        except OSError as error:
            return f"it does not reach {self}: {explain(error)}"
        return "" if found == text else f"it does not see what the driver wrote to {self}"

    def answered(self, text: str, node: str) -> bool:
        """In the driver: whether that machine's copy of the text arrived."""
        try:
            return self._transport.read_marker(node) == text
        except OSError:
            return False

    @override
    @contextlib.contextmanager
    def open(self, spec: TrialSpec) -> Iterator[StagedTrial]:
        """Train in a folder of this machine.

        Raises:
            NodeUnusableError: if this machine does not reach the results, before anything is trained.
            StorageUnreachableError: if the outcome cannot be delivered within the patience.
        """
        assert not spec.resources.across_nodes, "workers on several machines meet in a folder that all of them see"
        with private_folder(_PREFIX) as folder:
            store = Store.open(folder / "results", create=True)
            here = spec.model_copy(update={"results_dir": store.results_dir})
            self._prepare(here, store)
            if store.state(here).kind == "done":
                yield StagedTrial(here, lambda: False)
                return
            uploader = CheckpointUploader(self._transport, here, store.work_folder(here), folder / "uploads")
            try:
                with uploader.running(), stop_poller(self._transport) as should_stop:
                    yield StagedTrial(here, should_stop)
            finally:
                self._deliver(here, store, uploader)

    def _prepare(self, spec: TrialSpec, store: Store) -> None:
        """Fetch the finished trial, or else what there is of it and the finished trial that it starts from."""
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
        what = f"reading {spec.trial_id} from {self._transport}"
        retry(lambda: self._transport.fetch(spec, into, work=work), what, self._patience / 3)

    def _deliver(self, spec: TrialSpec, store: Store, uploader: CheckpointUploader) -> None:
        folder = store.folder(spec)
        if folder.is_dir():
            what = f"bringing the finished {spec.trial_id} to {self._transport}"
            retry(lambda: self._transport.commit(spec, folder), what, self._patience)
        else:
            uploader.finish(self._patience)
