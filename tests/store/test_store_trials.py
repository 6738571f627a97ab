"""The store: what counts as done, how a result gets there, and that nothing is lost or led astray."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.stubs.specs import spec as stub_spec
from support.stubs.store import finish, interrupt, write_finished

from dnw_core.errors import UserError
from dnw_core.record import HISTORY_FILE, RECORD_FILE, RECORD_VERSION, WIRING_FILE
from pipelines.store.folder import CommitRefusedError, Store
from pipelines.store.layout import work_folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "results", create=True)


def test_a_trial_goes_from_new_to_partial_to_done(store: Store) -> None:
    """The state follows what lies on disk, and a commit is one folder with every file."""
    spec = stub_spec(store.results_dir, epochs=7)
    assert store.state(spec).kind == "new"
    interrupt(store, spec, 3)
    assert (store.state(spec).kind, store.state(spec).epochs_done) == ("partial", 3)
    write_finished(store.work_folder(spec), spec)
    assert store.state(spec).kind == "partial"  # finished but not committed
    assert store.commit(spec) is True
    state = store.state(spec)
    assert (state.kind, state.epochs_done) == ("done", 7)
    assert state.record is not None
    names = sorted(path.name for path in store.folder(spec).iterdir())
    assert names == ["checkpoint.pt", "history.parquet", "log.txt", "trial.json", "wiring.npz"]  # progress.json is gone
    assert not work_folder(store.folder(spec)).exists()


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """A folder that is not there is an empty store, and asking about it does not create it."""
    store = Store.open(tmp_path / "absent")
    assert store.state(stub_spec(store.results_dir)).kind == "new"
    assert list(store.records()) == []
    assert not store.results_dir.exists()


def test_a_failure_keeps_its_reason_and_checkpoint(store: Store) -> None:
    """A failed trial says why; cleared, it goes on from its checkpoint."""
    spec = stub_spec(store.results_dir, epochs=7)
    interrupt(store, spec, 3)
    store.record_failure(spec, "the loss is nan", "last line")
    state = store.state(spec)
    assert (state.kind, state.reason, state.epochs_done) == ("failed", "the loss is nan", 3)
    assert [one.record.log_tail for one in store.records()] == ["last line"]
    store.clear_failure(spec)
    assert store.state(spec).kind == "partial"


@pytest.mark.parametrize("name", [HISTORY_FILE, WIRING_FILE, "checkpoint.pt", "log.txt"])
@pytest.mark.parametrize("how", ["altered", "truncated", "missing", "link"])
def test_a_damaged_result_is_not_believed(store: Store, name: str, how: str, tmp_path: Path) -> None:
    """A file that does not match its hash, or is not a file of the folder, makes the trial not done; it says which."""
    spec = stub_spec(store.results_dir)
    finish(store, spec)
    path = store.folder(spec) / name
    data = path.read_bytes()
    if how == "altered":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif how == "truncated":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
        if how == "link":
            (tmp_path / "elsewhere").write_bytes(data)
            path.symlink_to(tmp_path / "elsewhere")
    state = store.state(spec)
    assert state.kind == "new"
    assert name in str(state.damaged)
    moved = store.set_aside(spec)
    assert moved is not None
    assert moved.is_relative_to(store.results_dir / "set-aside")
    assert (moved / RECORD_FILE).is_file()  # never deleted
    assert store.state(spec).damaged is None


@pytest.mark.parametrize(
    "change",
    [
        {"row": "another"},
        {"seed": 5},
        {"fingerprint": "00000000"},
        {"status": "failed"},
        {"last": None},
        {"files": {}},
        {"files": {"../../x": "0"}},
    ],
    ids=str,
)
def test_a_record_must_be_the_trials_own(store: Store, change: dict[str, object]) -> None:
    """A record of another trial, without scores, without files, or naming files elsewhere is not believed."""
    spec = stub_spec(store.results_dir)
    finish(store, spec)
    path = store.folder(spec) / RECORD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert store.state(spec).kind == "new"
    assert store.state(spec).damaged


def test_a_changed_recipe_is_not_believed(store: Store) -> None:
    """A recipe that does not hash to the folder's fingerprint is not this trial's."""
    spec = stub_spec(store.results_dir)
    finish(store, spec)
    path = store.folder(spec) / RECORD_FILE
    values = json.loads(path.read_text())
    values["recipe"]["batch_size"] += 1
    path.write_text(json.dumps(values))
    assert "fingerprint" in str(store.state(spec).damaged)


def test_the_first_writer_wins(store: Store, tmp_path: Path) -> None:
    """A second copy of a committed trial is dropped without a word, and the first one stands."""
    spec = stub_spec(store.results_dir)
    finish(store, spec, accuracy=0.7)
    write_finished(store.work_folder(spec), spec, accuracy=0.9)
    assert store.commit(spec) is False
    record = store.state(spec).record
    assert record is not None
    assert record.last is not None
    assert record.last.test_accuracy == 0.7
    assert [path.name for path in store.folder(spec).parent.iterdir()] == ["seed-0"]


def test_a_damaged_result_gives_way_to_a_good_one(store: Store) -> None:
    """Committing over a damaged folder moves that one aside."""
    spec = stub_spec(store.results_dir)
    finish(store, spec)
    (store.folder(spec) / HISTORY_FILE).write_bytes(b"")
    write_finished(store.work_folder(spec), spec)
    assert store.commit(spec) is True
    assert store.state(spec).kind == "done"
    assert len(list((store.results_dir / "set-aside").rglob(RECORD_FILE))) == 1


def test_many_commits_at_once_make_one_result(store: Store) -> None:
    """Threads that commit the same working folder together: one succeeds, none raises."""
    spec = stub_spec(store.results_dir)
    for _ in range(20):
        write_finished(store.work_folder(spec), spec)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: store.commit(spec), range(4)))
        assert sum(results) == 1
        assert store.state(spec).kind == "done"
        assert store.reset(spec)


def test_an_unfinished_trial_is_not_committed(store: Store) -> None:
    """Without a record, or with files that do not match it, nothing is committed and nothing is lost."""
    spec = stub_spec(store.results_dir)
    interrupt(store, spec, 1)
    with pytest.raises(CommitRefusedError, match=RECORD_FILE):
        store.commit(spec)
    write_finished(store.work_folder(spec), spec)
    (store.work_folder(spec) / WIRING_FILE).write_bytes(b"half")
    with pytest.raises(CommitRefusedError, match=WIRING_FILE):
        store.commit(spec)
    assert store.work_folder(spec).is_dir()
    assert not store.folder(spec).exists()


def test_a_folder_from_another_machine_counts(store: Store, tmp_path: Path) -> None:
    """A copied result folder is believed where it is put."""
    there = Store.open(tmp_path / "there", create=True)
    spec = stub_spec(there.results_dir, seed=3)
    finish(there, spec)
    interrupt(there, stub_spec(there.results_dir, seed=4), 1)
    shutil.copytree(there.results_dir / "trials", store.results_dir / "trials")
    assert store.state(stub_spec(store.results_dir, seed=3)).kind == "done"
    assert store.state(stub_spec(store.results_dir, seed=4)).kind == "partial"
    assert [one.record.seed for one in store.records()] == [3]


@pytest.mark.parametrize("row", ["..", "../../etc", "a/b", "/etc", "", ".hidden", "a..b", "x" * 201, "a\nb", "a b"])
def test_no_name_leads_outside(store: Store, row: str) -> None:
    """A row's name that is no plain folder's name is refused, before anything is touched."""
    with pytest.raises(UserError, match="row"):
        store.work_folder(stub_spec(store.results_dir, row=row))


@pytest.mark.parametrize("depth", range(5))
def test_no_link_leads_outside(store: Store, tmp_path: Path, depth: int) -> None:
    """A symbolic link anywhere on the way to a trial is refused, by name."""
    outside = tmp_path / "outside"
    outside.mkdir()
    spec = stub_spec(store.results_dir)
    parts = work_folder(store.folder(spec)).relative_to(store.results_dir).parts
    link = store.results_dir.joinpath(*parts[: depth + 1])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(UserError, match="symbolic link"):
        store.work_folder(spec)
    assert list(outside.iterdir()) == []
    assert list(store.records()) == []


def test_the_results_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """Results often lie on another disk behind a link; only what is below must be real."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    store = Store.open(tmp_path / "results", create=True)
    finish(store, stub_spec(store.results_dir))
    assert store.state(stub_spec(store.results_dir)).kind == "done"


def test_newer_versions_are_respected(store: Store) -> None:
    """A store or record of a newer schema is refused with one line, not misread."""
    spec = stub_spec(store.results_dir)
    finish(store, spec)
    path = store.folder(spec) / RECORD_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": RECORD_VERSION + 1}))
    with pytest.raises(UserError, match="newer version"):
        store.state(spec)
    with pytest.raises(UserError, match="newer version"):
        list(store.records())
    (store.results_dir / "store.json").write_text('{"schema": 2}')
    with pytest.raises(UserError, match="written by a newer version"):
        Store.open(store.results_dir)
    (store.results_dir / "store.json").write_text("{")
    with pytest.raises(UserError, match="does not say its schema"):
        Store.open(store.results_dir)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A file in the folder's place, or a place where nothing can be made, is one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Store.open(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nothing")):
        with pytest.raises(UserError, match="cannot be written"):
            Store.open(path, create=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """A folder without write permission is refused before anything is trained."""
    (tmp_path / "results").mkdir(mode=0o555)
    with pytest.raises(UserError, match="cannot be written"):
        Store.open(tmp_path / "results", create=True)
