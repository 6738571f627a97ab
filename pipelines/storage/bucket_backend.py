"""Results in a bucket, as the driver sees them: a copy to read, and what brings every change to the bucket."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from dnw_core.errors import UserError
from pipelines.driver import StopRequest
from pipelines.spec import TrialSpec
from pipelines.storage.backends import OnFinished, ResultsBackend, SharedFolderBackend, refuse_across
from pipelines.storage.background import every
from pipelines.storage.bucket.client import Bucket, explain
from pipelines.storage.bucket.heartbeat_relay import relay_for_driver, relay_for_reader
from pipelines.storage.bucket.lease import Lease, hold
from pipelines.storage.bucket.mirror import Mirror, MirrorStore, mirror_folder
from pipelines.storage.bucket.trials import BucketTrials, run_folder
from pipelines.storage.staging import RemoteStaging, Staging
from pipelines.storage.transport import retry
from pipelines.store import STORE_FILE, STORE_SCHEMA, Store, is_plain

_REPORT = ("results", "trials", "costs", "layers", "leftovers")
_FIGURES = "figures"
_PATIENCE_SECONDS = 300.0
_PULL_SECONDS = 30.0
_STOP_SECONDS = 0.3
_PLACE_FILE = ".mirror-place"


class BucketBackend(ResultsBackend):
    """A folder of a bucket.

    Args:
        bucket: the folder.
        results_dir: for the copy.
    """

    def __init__(self, bucket: Bucket, results_dir: Path) -> None:
        super().__init__(results_dir)
        self._bucket = bucket
        self._mirror = Mirror(bucket, results_dir)
        self._trials = BucketTrials(bucket, run_folder())
        self._lease: Lease | None = None

    @override
    def __str__(self) -> str:
        return str(self._bucket)

    @override
    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        self._bucket.check(writes=False)
        with contextlib.ExitStack() as relay:
            with self._errors():
                self._mirror.pull()
                relay.enter_context(relay_for_reader(self._bucket, self.results_dir))
            yield

    @override
    @contextlib.contextmanager
    def exclusive(self, say: Callable[[str], None]) -> Iterator[None]:
        self.results_dir.mkdir(parents=True, exist_ok=True)
        with super().exclusive(say):
            self._bucket.check(writes=True)
            with hold(self._bucket, self._place(), say=say) as lease:
                self._lease = lease
                with self._errors():
                    self._check_layout()
                    self._mirror.pull()
                with relay_for_driver(self._bucket, self.results_dir):
                    yield

    @override
    def open_store(self, *, create: bool = False, trust_unchanged: bool = False) -> Store:
        return MirrorStore.over(self._mirror, self._trials, create=create, trust_unchanged=trust_unchanged)

    @override
    def refuse(self, specs: Sequence[TrialSpec]) -> None:
        refuse_across(specs, f"--results-dir {self._bucket}")

    @override
    @contextlib.contextmanager
    def staging(self, stop: StopRequest) -> Iterator[Staging]:
        if self._lease is not None:
            self._lease.when_lost(stop.request)
        passed = False

        def pass_on() -> None:
            """Copy a request to stop to the bucket, once."""
            nonlocal passed
            if stop.requested and not passed:
                self._trials.ask_to_stop()
                passed = True

        try:
            with every(_STOP_SECONDS, pass_on, "stop"):
                yield RemoteStaging(self._trials)
        finally:
            with contextlib.suppress(OSError):  # a few bytes stay
                for key in self._bucket.list(self._trials.run):
                    self._bucket.delete(key)

    @override
    @contextlib.contextmanager
    def notify_when_local(self, on_finished: OnFinished | None) -> Iterator[OnFinished | None]:
        ended: queue.SimpleQueue[TrialSpec | None] = queue.SimpleQueue()

        def work() -> None:
            while True:
                spec: TrialSpec | None = None
                try:
                    spec = ended.get(timeout=_PULL_SECONDS)
                    if spec is None:
                        return
                    self._pull([spec])
                except queue.Empty:
                    self._pull(None)
                if spec is not None and on_finished is not None:
                    on_finished(spec)

        thread = threading.Thread(target=work, name="mirror", daemon=True)
        thread.start()
        try:
            yield ended.put
        finally:
            ended.put(None)
            thread.join(_PATIENCE_SECONDS)

    @override
    def refresh(self) -> None:
        with self._errors():
            retry(self._mirror.pull, f"reading {self._bucket}", _PATIENCE_SECONDS)

    @override
    def publish(self) -> None:
        if self._lease is None:  # a driver is patient with its bucket, a reader is told at once
            self._bucket.check(writes=True)
        files = [path for path in self.results_dir.iterdir() if path.stem in _REPORT and path.suffix != ".json"]
        figures = self.results_dir / _FIGURES
        files += list(figures.iterdir()) if figures.is_dir() else []
        with self._errors():
            for path in files:
                if path.is_file() and not path.is_symlink() and is_plain(path.name):
                    key = path.relative_to(self.results_dir).as_posix()
                    content = path.read_bytes()
                    retry(lambda k=key, c=content: self._bucket.put(k, c), f"writing {key}", _PATIENCE_SECONDS)  # type: ignore[misc]

    def _pull(self, specs: Sequence[TrialSpec] | None) -> None:
        with contextlib.suppress(OSError):  # away for now: the end of the run reads everything again
            self._mirror.pull(specs)

    def _place(self) -> str:
        """Return this copy's name: a lease of the same name belongs to a driver that had the copy's lock before us."""
        path = self.results_dir / _PLACE_FILE
        if not path.is_file():
            path.write_text(uuid.uuid4().hex, "utf-8")
        return path.read_text("utf-8")

    def _check_layout(self) -> None:
        try:
            values: Any = json.loads(self._bucket.get(STORE_FILE))
        except FileNotFoundError:
            self._bucket.put(STORE_FILE, json.dumps({"schema": STORE_SCHEMA, "layout": "bucket"}).encode() + b"\n")
            return
        except (ValueError, RecursionError):
            values = None
        known = isinstance(values, dict) and values.get("layout") == "bucket" and isinstance(values.get("schema"), int)
        if not known:
            raise UserError(f"{self._bucket} holds something else (its {STORE_FILE}); give another --results-dir")
        if values["schema"] > STORE_SCHEMA:
            raise UserError(f"{self._bucket} was written by a newer version of this project; use that version")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"results in {self._bucket} cannot be used: {explain(error)}") from None


def open_backend(place: Path | str) -> ResultsBackend:
    """Return the backend of a folder that all machines see, or of the bucket at an address.

    Raises:
        UserError: if the address is of an unknown kind.
    """
    return (
        BucketBackend(Bucket.of(place), mirror_folder(place)) if isinstance(place, str) else SharedFolderBackend(place)
    )
