"""The results folder of the driver's machine, for machines that do not see it: a Ray actor beside the driver.

The actor (``StoreServer``) has a plain store on that folder. Files come to it in pieces, are put together under a name
of their own in this run's folder, and move into the trial's working folder only if their SHA-256 is the sender's; a
finished trial is committed by the store's own rename. So the results folder looks as it always does. The server keeps
no state: if its process dies Ray starts another one, and the sender begins again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from dnw_core.files import sha256_of, sync
from dnw_core.record import RECORD_FILE
from pipelines.spec import TrialSpec
from pipelines.storage.transport import Transport
from pipelines.store import Store, is_plain, read_own_record, work_folder

CHUNK_BYTES = 8 * 2**20
_CALLS_AT_ONCE = 16
_ANSWER_SECONDS = 120.0
_ATTEMPTS = 3


class StoreServer:
    """Runs in the actor: fetches, takes and commits files of trials in the results folder.

    Args:
        results_dir: the results folder.
        run_folder: this run's own folder below it, on the same disk.
    """

    def __init__(self, results_dir: str, run_folder: str) -> None:
        self._store = Store.open(Path(results_dir))
        self._run = Path(run_folder)
        self._lock = threading.Lock()  # of everything that changes a trial's folder

    def files(self, spec: str, work: bool) -> list[str]:
        """Return the names of a trial's files."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder(spec, work)) as entries:
            return sorted(entry.name for entry in entries if is_plain(entry.name) and entry.is_file())
        return []

    def read(self, spec: str, work: bool, name: str, offset: int) -> bytes:
        """Return the next piece of a file; nothing at its end."""
        with (self._folder(spec, work) / _plain(name)).open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)

    def sha256(self, spec: str, work: bool, name: str) -> str:
        """Return a file's hash."""
        return sha256_of(self._folder(spec, work) / _plain(name))

    def take(self, token: str, name: str, offset: int, piece: bytes) -> None:
        """Take a piece of a file that is being sent; the same piece may come twice."""
        folder = self._arriving(token)
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(folder / _plain(name), os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
            file.seek(offset)
            file.write(piece)
            file.truncate()

    def put(self, token: str, spec: str, name: str, digest: str) -> None:
        """Put a file that has arrived into the trial's working folder; nothing is put if the trial is finished."""
        arrived = self._arriving(token) / _plain(name)
        try:
            self._verify(arrived, digest)
            trial = TrialSpec.model_validate_json(spec)
            with self._lock:
                if not self._store.folder(trial).exists():
                    arrived.replace(self._store.work_folder(trial) / name)
        finally:
            self.drop(token)

    def commit(self, token: str, spec: str, files: dict[str, str]) -> bool:
        """Commit a finished trial whose files have arrived; False if it was committed from elsewhere."""
        trial = TrialSpec.model_validate_json(spec)
        folder = self._arriving(token)
        try:
            for name, digest in files.items():
                self._verify(folder / _plain(name), digest)
            with self._lock:
                if self._store.state(trial).kind == "done":
                    return False
                work = self._store.work_folder(trial)
                for name in sorted(files, key=lambda name: name == RECORD_FILE):
                    (folder / name).replace(work / name)
                return self._store.commit(trial)
        finally:
            self.drop(token)

    def drop(self, token: str) -> None:
        """Forget what was sent."""
        shutil.rmtree(self._arriving(token), ignore_errors=True)

    def stop_wanted(self) -> bool:
        """Whether all trials are asked to stop."""
        return (self._run / "stop").exists()

    def write_marker(self, name: str, text: str) -> None:
        """Write a text under a name, for other machines to read."""
        (self._run / f"word-{_plain(name)}").write_text(text, "utf-8")

    def read_marker(self, name: str) -> str:
        """Return the text that was written under a name."""
        return (self._run / f"word-{_plain(name)}").read_text("utf-8")

    def _folder(self, spec: str, work: bool) -> Path:
        folder = self._store.folder(TrialSpec.model_validate_json(spec))
        return work_folder(folder) if work else folder

    def _arriving(self, token: str) -> Path:
        return self._run / f"arriving-{_plain(token)}"

    def _verify(self, path: Path, digest: str) -> None:
        if sha256_of(path) != digest:
            raise OSError(f"{path.name} arrived damaged")
        sync(path)


def _plain(name: str) -> str:
    if not is_plain(name):
        raise ValueError(f"{name!r} is not the name of a file")
    return name


class ActorTransport(Transport):
    """Reaches the server by its actor's name, from any process of the cluster.

    Args:
        name: the actor's.
        namespace: in which it has that name.
        where: what messages call it.
    """

    def __init__(self, name: str, namespace: str, where: str) -> None:
        self._name, self._namespace, self._where = name, namespace, where
        self._server: Any = None

    def __reduce__(self) -> tuple[type[ActorTransport], tuple[str, str, str]]:
        """Go to another process without what was opened here."""
        return ActorTransport, (self._name, self._namespace, self._where)

    def __str__(self) -> str:
        return self._where

    @override
    def fetch(self, spec: TrialSpec, into: Path, *, work: bool) -> None:
        text = spec.model_dump_json()
        for name in self._call("files", text, work):
            into.mkdir(parents=True, exist_ok=True)
            arriving = into / f".{_plain(name)}.tmp"
            with contextlib.suppress(FileNotFoundError):  # moved away at this moment
                for _attempt in range(_ATTEMPTS):
                    if self._read(text, work, name, arriving) == self._call("sha256", text, work, name):
                        arriving.replace(into / name)
                        break
            arriving.unlink(missing_ok=True)

    @override
    def deliver(self, spec: TrialSpec, name: str, path: Path) -> None:
        with self._sending() as token:
            self._call("put", token, spec.model_dump_json(), name, self._send(token, path))

    @override
    def commit(self, spec: TrialSpec, folder: Path) -> bool:
        names = [RECORD_FILE, *read_own_record(folder, spec).files]
        with self._sending() as token:
            digests = {name: self._send(token, folder / name) for name in names}
            committed: bool = self._call("commit", token, spec.model_dump_json(), digests)
            return committed

    @override
    def stop_wanted(self) -> bool:
        return bool(self._call("stop_wanted"))

    @override
    def write_marker(self, name: str, text: str) -> None:
        self._call("write_marker", name, text)

    @override
    def read_marker(self, name: str) -> str:
        return str(self._call("read_marker", name))

    @contextlib.contextmanager
    def _sending(self) -> Iterator[str]:
        token = uuid.uuid4().hex
        try:
            yield token
        except OSError:
            with contextlib.suppress(OSError):
                self._call("drop", token)
            raise

    def _send(self, token: str, path: Path) -> str:
        """Send a file in pieces and return the SHA-256 of what was sent."""
        digest, offset = hashlib.sha256(), 0
        with path.open("rb") as file:
            while (piece := file.read(CHUNK_BYTES)) or not offset:
                self._call("take", token, path.name, offset, piece)
                digest.update(piece)
                offset += len(piece)
                if not piece:
                    break
        return digest.hexdigest()

    def _read(self, text: str, work: bool, name: str, into: Path) -> str:
        digest, offset = hashlib.sha256(), 0
        with into.open("wb") as file:
            while piece := self._call("read", text, work, name, offset):
                file.write(piece)
                digest.update(piece)
                offset += len(piece)
        return digest.hexdigest()

    def _call(self, method: str, *values: Any) -> Any:
        """Call the server; whatever Ray raises because it does not answer becomes an OSError.

        Raises:
            OSError: what the server itself raised about its disk, or why it cannot be reached.
        """
        import ray

        try:
            if self._server is None:
                self._server = ray.get_actor(self._name, namespace=self._namespace)
            return ray.get(getattr(self._server, method).remote(*values), timeout=_ANSWER_SECONDS)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except (ray.exceptions.RayError, ValueError) as error:  # ValueError: no actor has this name
            self._server = None
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ConnectionError(f"{self._where} does not answer: {lines[0][:200]}") from None


@contextlib.contextmanager
def store_actor(results_dir: Path, run_folder: Path) -> Iterator[ActorTransport]:
    """Start the server on this machine (Ray is connected) for the block."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name, namespace = f"store-{uuid.uuid4().hex}", "dnw"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": _CALLS_AT_ONCE, "max_restarts": -1, "scheduling_strategy": here}
    actor = ray.remote(StoreServer).options(name=name, namespace=namespace, **options)
    server = actor.remote(str(results_dir), str(run_folder))
    try:
        transport = ActorTransport(name, namespace, f"the results folder of {os.uname().nodename}")
        transport.stop_wanted()  # it has started
        yield transport
    finally:
        with contextlib.suppress(Exception):  # Ray itself may be gone
            ray.kill(server)
