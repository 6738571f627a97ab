"""Trials in a bucket: committed by one PUT, believed only whole, never mixed; a copy to read. Against moto's server."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.services import s3_server
from support.stubs.specs import spec
from support.stubs.store import write_finished

from dnw_core.errors import UserError
from dnw_core.record import CHECKPOINT_FILE, HISTORY_FILE, PROGRESS_FILE, RECORD_FILE
from pipelines.spec import TrialSpec
from pipelines.storage.bucket.mirror import Mirror, MirrorStore
from pipelines.storage.bucket.trials import BucketTrials, finished_prefix, name_of, parse_name, work_prefix
from pipelines.storage.bucket_backend import BucketBackend
from pipelines.store.folder import Store


def _finished(folder: Path, one: TrialSpec, accuracy: float = 0.8) -> Path:
    write_finished(folder, one, accuracy=accuracy)
    return folder


def _store(bucket_trials: BucketTrials, folder: Path) -> MirrorStore:
    mirror = Mirror(bucket_trials.bucket, folder)
    mirror.pull()
    return MirrorStore.over(mirror, bucket_trials, create=True)


def test_commit_and_fetch_are_the_same_folder(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """What was committed comes back byte for byte, and a plain store believes it."""
    one = spec(tmp_path / "back")
    folder = _finished(tmp_path / "made", one)
    assert bucket_trials.commit(one, folder)
    store = Store.open(tmp_path / "back", create=True)
    bucket_trials.fetch(one, store.folder(one), work=False)
    assert {path.name: path.read_bytes() for path in store.folder(one).iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert store.state(one).kind == "done"


def test_copy_believes_a_finished_trial_without_its_checkpoint(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """The copy has the small files; the checkpoint counts by its object, and not if that is gone or cut short."""
    one = spec(tmp_path / "copy")
    bucket_trials.commit(one, _finished(tmp_path / "made", one))
    store = _store(bucket_trials, tmp_path / "copy")
    assert not (store.folder(one) / CHECKPOINT_FILE).exists()
    assert store.state(one).kind == "done"
    named = name_of(tmp_path / "made" / CHECKPOINT_FILE)
    bucket_trials.bucket.put(f"{finished_prefix(one)}{named}", b"short")
    state = _store(bucket_trials, tmp_path / "copy").state(one)
    assert state.kind == "new"
    assert CHECKPOINT_FILE in str(state.damaged)


def test_history_of_other_bytes_is_not_believed(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """An object whose content is not what its name says is found when it is read, and the trial is set aside."""
    one = spec(tmp_path / "copy")
    bucket_trials.commit(one, _finished(tmp_path / "made", one))
    named = name_of(tmp_path / "made" / HISTORY_FILE)
    bucket_trials.bucket.put(f"{finished_prefix(one)}{named}", b"x" * named.size)
    store = _store(bucket_trials, tmp_path / "copy")
    assert HISTORY_FILE in str(store.state(one).damaged)
    store.set_aside(one)
    assert store.state(one).damaged is None
    assert not bucket_trials.bucket.list(finished_prefix(one))
    aside = bucket_trials.bucket.list("set-aside/")
    assert sum(key.endswith(RECORD_FILE) for key in aside) == 1
    assert len(aside) == 5


def test_killed_before_the_record_is_no_result(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """Files without the record are no trial, for nobody; the next commit uses what lies there."""
    one = spec(tmp_path / "copy")
    folder = _finished(tmp_path / "made", one)
    for path in folder.iterdir():
        if path.name != RECORD_FILE:
            bucket_trials.bucket.upload(f"{finished_prefix(one)}{name_of(path)}", path)
    assert _store(bucket_trials, tmp_path / "copy").state(one).kind == "new"
    bucket_trials.fetch(one, tmp_path / "nothing", work=False)
    assert not (tmp_path / "nothing").exists()
    assert bucket_trials.commit(one, folder)
    assert len(bucket_trials.bucket.list(finished_prefix(one))) == 5


def test_half_an_upload_is_not_taken_for_the_whole(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """An object that is shorter than its name says is written anew by the commit."""
    one = spec(tmp_path / "copy")
    folder = _finished(tmp_path / "made", one)
    bucket_trials.bucket.put(f"{finished_prefix(one)}{name_of(folder / CHECKPOINT_FILE)}", b"ch")
    assert bucket_trials.commit(one, folder)
    assert _store(bucket_trials, tmp_path / "copy").state(one).kind == "done"


def test_first_writer_wins(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """A late copy of a finished trial changes nothing of what stands."""
    one = spec(tmp_path / "copy")
    assert bucket_trials.commit(one, _finished(tmp_path / "first", one))
    before = bucket_trials.bucket.list(finished_prefix(one))
    assert not bucket_trials.commit(one, _finished(tmp_path / "late", one, accuracy=0.9))
    assert bucket_trials.bucket.list(finished_prefix(one)) == before


def test_a_damaged_result_does_not_stand(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """What cannot be believed is no first writer: the next commit replaces it."""
    one = spec(tmp_path / "copy")
    bucket_trials.commit(one, _finished(tmp_path / "first", one))
    bucket_trials.bucket.put(finished_prefix(one) + RECORD_FILE, b"{")
    assert bucket_trials.commit(one, _finished(tmp_path / "second", one))
    assert _store(bucket_trials, tmp_path / "copy").state(one).kind == "done"


def test_newest_good_checkpoint_comes_back(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """Two checkpoints are kept; the newest is brought, and where it is damaged the one before it."""
    one = spec(tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    names = []
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        bucket_trials.deliver(one, CHECKPOINT_FILE, path)
        names.append(str(name_of(path)))
        s3_server.age(work_prefix(one), 10.0)  # the server's times are whole seconds
    assert {key.rpartition("/")[2] for key in bucket_trials.bucket.list(work_prefix(one))} == set(names[1:])
    bucket_trials.fetch(one, tmp_path / "a", work=True)
    assert (tmp_path / "a" / CHECKPOINT_FILE).read_bytes() == b"third"
    bucket_trials.bucket.put(work_prefix(one) + names[2], b"THIRD")
    bucket_trials.fetch(one, tmp_path / "b", work=True)
    assert (tmp_path / "b" / CHECKPOINT_FILE).read_bytes() == b"second"


def test_copy_shows_partial_and_failed(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """Epochs done of an interrupted trial, the reason of a failure: both in the copy; clearing goes to the bucket."""
    one = spec(tmp_path / "copy", epochs=4)
    for name, content in ((CHECKPOINT_FILE, "c"), (PROGRESS_FILE, '{"epoch": 3}')):
        (tmp_path / name).write_text(content)
        bucket_trials.deliver(one, name, tmp_path / name)
    store = _store(bucket_trials, tmp_path / "copy")
    assert (store.state(one).kind, store.state(one).epochs_done) == ("partial", 3)
    store.record_failure(one, "the loss is nan")
    again = _store(bucket_trials, tmp_path / "other")
    assert (again.state(one).kind, again.state(one).reason) == ("failed", "the loss is nan")
    again.clear_failure(one)
    assert _store(bucket_trials, tmp_path / "copy").state(one).kind == "partial"
    again.reset(one)
    assert _store(bucket_trials, tmp_path / "copy").state(one).kind == "new"


def test_copy_follows_and_fetches_only_what_changed(
    s3: s3_server.S3, bucket_trials: BucketTrials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look reads nothing; what is gone from the bucket goes from the copy; marks of folders mean nothing."""
    one, two = spec(tmp_path / "copy"), spec(tmp_path / "copy", seed=1)
    bucket_trials.commit(one, _finished(tmp_path / "one", one))
    for mark in ("trials/", finished_prefix(one), work_prefix(one)):  # as pyarrow and consoles leave them
        s3.put_raw(f"{tmp_path.name}/{mark}")
    mirror = Mirror(bucket_trials.bucket, tmp_path / "copy")
    mirror.pull()
    read: list[str] = []
    monkeypatch.setattr(type(bucket_trials.bucket), "get", lambda _, key: read.append(key))
    monkeypatch.setattr(type(bucket_trials.bucket), "download", lambda _, key, path: read.append(key))
    Mirror(bucket_trials.bucket, tmp_path / "copy").pull()
    assert read == []
    monkeypatch.undo()
    bucket_trials.commit(two, _finished(tmp_path / "two", two))
    mirror.pull([two])
    store = MirrorStore.over(mirror, bucket_trials)
    assert [state.kind for state in store.states([one, two])] == ["done", "done"]
    bucket_trials.set_aside(one, work=False)
    mirror.pull()
    assert [state.kind for state in store.states([one, two])] == ["new", "done"]


@pytest.mark.parametrize("key", ["trials/%2E%2E/%2E%2E/x/0123456789/seed-0/trial.json", "trials//x"])
def test_name_that_is_not_a_path_is_refused(
    s3: s3_server.S3, bucket_trials: BucketTrials, tmp_path: Path, key: str
) -> None:
    """No object's name leads out of the copy: one that might is named, and nothing is read."""
    s3.put_raw(f"{tmp_path.name}/{key}")
    with pytest.raises(UserError, match="an object there has a name that cannot be used, remove it: "):
        BucketBackend(bucket_trials.bucket, tmp_path / "copy").reading().__enter__()
    assert [path.name for path in tmp_path.rglob("x")] == []


def test_names() -> None:
    """A name tells file, size and hash, and nothing else is taken for one."""
    digest = "ab" * 32
    assert parse_name(f"checkpoint.pt.12.{digest}") == ("checkpoint.pt", 12, digest)
    for wrong in ("trial.json", f"checkpoint.pt.12.{digest[:-1]}", f"../x.1.{digest}", f".hidden.1.{digest}"):
        assert parse_name(wrong) is None
