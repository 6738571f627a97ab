"""The driver's own folder for machines that do not see it: through the actor, and what its keeper refuses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
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
    """Calls the keeper without Ray; ``spoil`` alters what is sent."""

    def __init__(self, results_dir: Path, run: Path) -> None:
        super().__init__("keeper", "none", "the keeper")
        run.mkdir(parents=True, exist_ok=True)
        Store.open(results_dir, create=True)
        self.keeper = StoreServer(str(results_dir), str(run))
        self.spoil = False
        self.largest = 0

    def _call(self, method: str, *values: Any) -> Any:
        if method == "take":
            self.largest = max(self.largest, len(values[3]))
            if self.spoil:
                values = (*values[:3], values[3].replace(b"checkpoint", b"CHECKPOINT"))
        return getattr(self.keeper, method)(*values)


@pytest.fixture
def carrier(tmp_path: Path) -> _Here:
    """A keeper of ``tmp_path / "results"``."""
    return _Here(tmp_path / "results", tmp_path / "results" / ".run" / "1")


def _train(depot: Staging, one: TrialSpec) -> object:
    with depot.open(one) as (here, should_stop):
        return run_spec(here, Hooks(should_stop=should_stop), train=TRAIN)


def test_results_folder_looks_as_ever(carrier: _Here, tmp_path: Path) -> None:
    """Trained through the keeper: the very files of a plain folder, nothing else, and done once."""
    one, child = spec(tmp_path / "results"), spec(tmp_path / "results", "child", parent=spec(tmp_path / "results"))
    for each in (one, child):
        _train(RemoteStaging(carrier), each)
        _train(SharedFolder(tmp_path / "stop"), each.model_copy(update={"results_dir": _plain(tmp_path)}))
    assert _names(tmp_path / "results") == _names(tmp_path / "plain")
    assert Store.open(tmp_path / "results").state(child).kind == "done"
    assert _train(RemoteStaging(carrier), one) == Store.open(tmp_path / "results").state(one).record


def test_what_arrives_damaged_is_not_taken(carrier: _Here, tmp_path: Path) -> None:
    """A finished trial whose bytes changed on the way is not committed, and a checkpoint not put in place."""
    one = spec(tmp_path / "results")
    write_finished(tmp_path / "made", one)
    carrier.spoil = True
    with pytest.raises(OSError, match="arrived damaged"):
        carrier.commit(one, tmp_path / "made")
    with pytest.raises(OSError, match="arrived damaged"):
        carrier.deliver(one, CHECKPOINT_FILE, tmp_path / "made" / CHECKPOINT_FILE)
    assert Store.open(tmp_path / "results").state(one).kind == "new"
    carrier.spoil = False
    assert carrier.commit(one, tmp_path / "made")
    assert not list((tmp_path / "results" / ".run" / "1").iterdir())


def test_late_loser_and_late_checkpoint(carrier: _Here, tmp_path: Path) -> None:
    """What comes after the commit changes nothing and leaves nothing."""
    one = spec(tmp_path / "results")
    write_finished(tmp_path / "made", one)
    write_finished(tmp_path / "late", one, accuracy=0.9)
    assert carrier.commit(one, tmp_path / "made")
    before = _names(tmp_path / "results")
    assert not carrier.commit(one, tmp_path / "late")
    carrier.deliver(one, CHECKPOINT_FILE, tmp_path / "late" / CHECKPOINT_FILE)
    assert _names(tmp_path / "results") == before
    record = Store.open(tmp_path / "results").state(one).record
    assert record is not None
    assert record.last is not None
    assert record.last.test_accuracy == 0.8


def test_large_files_go_in_pieces(carrier: _Here, tmp_path: Path) -> None:
    """A checkpoint of two pieces and a bit arrives whole, and no message is larger than a piece; an empty file, too."""
    one = spec(tmp_path / "results")
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(os.urandom(2 * CHUNK_BYTES + 5))
    carrier.deliver(one, CHECKPOINT_FILE, path)
    assert carrier.largest == CHUNK_BYTES
    (tmp_path / "empty").touch()
    carrier.deliver(one, "empty", tmp_path / "empty")
    carrier.fetch(one, tmp_path / "back", work=True)
    assert (tmp_path / "back" / CHECKPOINT_FILE).read_bytes() == path.read_bytes()
    assert (tmp_path / "back" / "empty").read_bytes() == b""


def test_no_name_leads_out_of_the_folder(carrier: _Here, tmp_path: Path) -> None:
    """Names with a way in them are refused by the keeper, whoever sends them."""
    one = spec(tmp_path / "results").model_dump_json()
    for wrong in ("../x", "a/b", "..", ".hidden", ""):
        with pytest.raises(ValueError, match="is no file's name"):
            carrier.keeper.read(one, True, wrong, 0)
        with pytest.raises(ValueError, match="is no file's name"):
            carrier.keeper.take("token", wrong, 0, b"x")
        with pytest.raises(ValueError, match="is no file's name"):
            carrier.keeper.drop(wrong)


@pytest.fixture(scope="module")
def ray_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Ray for the tests below."""
    from pipelines.cluster.connection import connect

    with connect(None):
        yield tmp_path_factory.mktemp("actor")


@pytest.mark.slow
def test_same_report_from_folder_bucket_and_actor(ray_folder: Path, tmp_path: Path) -> None:
    """The three kinds of places give the same bytes of results.parquet, and a killed keeper is started again."""
    from reports import build_report

    run = ray_folder / "results" / ".run" / "1"
    run.mkdir(parents=True)
    Store.open(ray_folder / "results", create=True)
    rows = ("ok", "fails", "other")
    with store_actor(ray_folder / "results", run) as carrier, s3_server.serve() as s3:
        trials = BucketTrials(s3.bucket("same"), "drivers/run-1/")
        for number, row in enumerate(rows):
            one = spec(ray_folder / "results", row)
            _train(RemoteStaging(carrier), one)
            _train(RemoteStaging(trials), one)
            _train(SharedFolder(tmp_path / "stop"), one.model_copy(update={"results_dir": _plain(tmp_path)}))
            if number == 0:
                _kill_keeper(carrier)
        Mirror(trials.bucket, tmp_path / "copy").pull()
    shown = [report_row(spec(tmp_path, row), (0,)) for row in rows]
    parquets = []
    for folder in (tmp_path / "plain", tmp_path / "copy", ray_folder / "results"):
        build_report(folder, shown, scale="smoke")
        parquets.append((folder / "results.parquet").read_bytes())
    assert parquets[0] == parquets[1] == parquets[2]
    assert _names(ray_folder / "results", "trials/**/*") == _names(tmp_path / "plain", "trials/**/*")


def _kill_keeper(carrier: ActorTransport) -> None:
    import ray

    keeper = ray.get_actor(carrier._name, namespace="dnw")
    pid = ray.get(keeper.__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            carrier.stop_wanted()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the keeper was not started again")


def _plain(tmp_path: Path) -> Path:
    Store.open(tmp_path / "plain", create=True)
    return tmp_path / "plain"


def _names(folder: Path, pattern: str = "**/*") -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.glob(pattern)
        if path.is_file() and path.name not in (RECORD_FILE + ".tmp", "trial.lock")
    }
