"""The driver's own folder for machines that do not see it: through the actor, and what its server refuses."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.services import s3_server
from support.stubs.specs import TRAIN, report_row, spec
from support.stubs.store import write_finished

from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from dnw_core.task import Hooks
from pipelines.spec import TrialSpec
from pipelines.storage.actor import CHUNK_BYTES, ActorTransport, StoreServer, store_actor
from pipelines.storage.bucket.mirror import Mirror
from pipelines.storage.bucket.trials import BucketTrials
from pipelines.storage.staging import RemoteStaging, SharedFolder, Staging
from pipelines.store.folder import Store
from pipelines.trial.run import run_spec


class _Here(ActorTransport):
    """Calls the server without Ray; ``spoil`` alters what is sent."""

    def __init__(self, results_dir: Path, run: Path) -> None:
        super().__init__("server", "none", "the server")
        run.mkdir(parents=True, exist_ok=True)
        Store.open(results_dir, create=True)
        self.server = StoreServer(str(results_dir), str(run))
        self.spoil = False
        self.largest = 0

    def _call(self, method: str, *values: Any) -> Any:
        if method == "take":
            self.largest = max(self.largest, len(values[3]))
            if self.spoil:
                values = (*values[:3], values[3].replace(b"checkpoint", b"CHECKPOINT"))
        return getattr(self.server, method)(*values)


@pytest.fixture
def transport(tmp_path: Path) -> _Here:
    """A server of ``tmp_path / "results"``."""
    return _Here(tmp_path / "results", tmp_path / "results" / ".run" / "1")


def _train(staging: Staging, one: TrialSpec) -> object:
    with staging.open(one) as (here, should_stop):
        return run_spec(here, Hooks(should_stop=should_stop), train=TRAIN)


def test_results_folder_looks_as_ever(transport: _Here, tmp_path: Path) -> None:
    """Trained through the server: the very files of a plain folder, nothing else, and done once."""
    one, child = spec(tmp_path / "results"), spec(tmp_path / "results", "child", parent=spec(tmp_path / "results"))
    for each in (one, child):
        _train(RemoteStaging(transport), each)
        _train(SharedFolder(tmp_path / "stop"), each.model_copy(update={"results_dir": _plain(tmp_path)}))
    assert _names(tmp_path / "results") == _names(tmp_path / "plain")
    assert Store.open(tmp_path / "results").state(child).kind == "done"
    assert _train(RemoteStaging(transport), one) == Store.open(tmp_path / "results").state(one).record


def test_what_arrives_damaged_is_not_taken(transport: _Here, tmp_path: Path) -> None:
    """A finished trial whose bytes changed on the way is not committed, and a checkpoint not put in place."""
    one = spec(tmp_path / "results")
    write_finished(tmp_path / "made", one)
    transport.spoil = True
    with pytest.raises(OSError, match="arrived damaged"):
        transport.commit(one, tmp_path / "made")
    with pytest.raises(OSError, match="arrived damaged"):
        transport.deliver(one, CHECKPOINT_FILE, tmp_path / "made" / CHECKPOINT_FILE)
    assert Store.open(tmp_path / "results").state(one).kind == "new"
    transport.spoil = False
    assert transport.commit(one, tmp_path / "made")
    assert not list((tmp_path / "results" / ".run" / "1").iterdir())


def test_late_loser_and_late_checkpoint(transport: _Here, tmp_path: Path) -> None:
    """What comes after the commit changes nothing and leaves nothing."""
    one = spec(tmp_path / "results")
    write_finished(tmp_path / "made", one)
    write_finished(tmp_path / "late", one, accuracy=0.9)
    assert transport.commit(one, tmp_path / "made")
    before = _names(tmp_path / "results")
    assert not transport.commit(one, tmp_path / "late")
    transport.deliver(one, CHECKPOINT_FILE, tmp_path / "late" / CHECKPOINT_FILE)
    assert _names(tmp_path / "results") == before
    record = Store.open(tmp_path / "results").state(one).record
    assert record is not None
    assert record.last is not None
    assert record.last.test_accuracy == 0.8


def test_large_files_go_in_pieces(transport: _Here, tmp_path: Path) -> None:
    """A checkpoint of two pieces and a bit arrives whole, and no message is larger than a piece; an empty file, too."""
    one = spec(tmp_path / "results")
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(os.urandom(2 * CHUNK_BYTES + 5))
    transport.deliver(one, CHECKPOINT_FILE, path)
    assert transport.largest == CHUNK_BYTES
    (tmp_path / "empty").touch()
    transport.deliver(one, "empty", tmp_path / "empty")
    transport.fetch(one, tmp_path / "back", work=True)
    assert (tmp_path / "back" / CHECKPOINT_FILE).read_bytes() == path.read_bytes()
    assert (tmp_path / "back" / "empty").read_bytes() == b""


def test_no_name_leads_out_of_the_folder(transport: _Here, tmp_path: Path) -> None:
    """Names with a way in them are refused by the server, whoever sends them."""
    one = spec(tmp_path / "results").model_dump_json()
    for wrong in ("../x", "a/b", "..", ".hidden", ""):
        with pytest.raises(ValueError, match="is not the name of a file"):
            transport.server.read(one, True, wrong, 0)
        with pytest.raises(ValueError, match="is not the name of a file"):
            transport.server.take("token", wrong, 0, b"x")
        with pytest.raises(ValueError, match="is not the name of a file"):
            transport.server.drop(wrong)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_same_report_from_folder_bucket_and_actor(tmp_path: Path) -> None:
    """The three kinds of places give the same bytes of results.parquet, and a killed server is started again."""
    from reports import build_report

    run = tmp_path / "results" / ".run" / "1"
    run.mkdir(parents=True)
    Store.open(tmp_path / "results", create=True)
    rows = ("ok", "fails", "other")
    with store_actor(tmp_path / "results", run) as transport, s3_server.serve() as s3:
        trials = BucketTrials(s3.bucket("same"), "drivers/run-1/")
        for number, row in enumerate(rows):
            one = spec(tmp_path / "results", row)
            _train(RemoteStaging(transport), one)
            _train(RemoteStaging(trials), one)
            _train(SharedFolder(tmp_path / "stop"), one.model_copy(update={"results_dir": _plain(tmp_path)}))
            if number == 0:
                _kill_server(transport)
        Mirror(trials.bucket, tmp_path / "copy").pull()
    shown = [report_row(spec(tmp_path, row), (0,)) for row in rows]
    parquets = []
    for folder in (tmp_path / "plain", tmp_path / "copy", tmp_path / "results"):
        build_report(folder, shown, scale="smoke")
        parquets.append((folder / "results.parquet").read_bytes())
    assert parquets[0] == parquets[1] == parquets[2]
    assert _names(tmp_path / "results", "trials/**/*") == _names(tmp_path / "plain", "trials/**/*")


def _kill_server(transport: ActorTransport) -> None:
    import ray

    server = ray.get_actor(transport._name, namespace="dnw")
    pid = ray.get(server.__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            transport.stop_wanted()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server was not started again")


def _plain(tmp_path: Path) -> Path:
    Store.open(tmp_path / "plain", create=True)
    return tmp_path / "plain"


def _names(folder: Path, pattern: str = "**/*") -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.glob(pattern)
        if path.is_file() and path.name not in (RECORD_FILE + ".tmp", "trial.lock")
    }
