"""Trials trained on a machine that reaches a bucket only: resumed, carried home, committed, with the server away."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from support.faults.processes import wait_for
from support.services import s3_server
from support.stubs.specs import TRAIN, spec
from support.stubs.store import write_finished

from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, RECORD_FILE
from dnw_core.task import Hooks
from pipelines.spec import TrialSpec
from pipelines.storage.bucket.mirror import Mirror, MirrorStore
from pipelines.storage.bucket.trials import BucketTrials, finished_prefix, work_prefix
from pipelines.storage.staging import NodeUnusableError, RemoteStaging
from pipelines.storage.transport import StorageUnreachableError, retry
from pipelines.trial.run import run_spec


def _train(bucket_trials: BucketTrials, one: TrialSpec, patience: float = 60.0) -> object:
    with RemoteStaging(bucket_trials, patience).open(one) as (here, should_stop):
        return run_spec(here, Hooks(should_stop=should_stop), train=TRAIN)


def _state(bucket_trials: BucketTrials, folder: Path, one: TrialSpec) -> tuple[str, str | None]:
    mirror = Mirror(bucket_trials.bucket, folder)
    mirror.pull()
    state = MirrorStore.over(mirror, bucket_trials, create=True).state(one)
    return state.kind, state.reason


def test_trained_once_and_then_found(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """A trial is committed in the bucket; another process that gets it finds it done and trains nothing."""
    one = spec(tmp_path / "copy")
    first = _train(bucket_trials, one)
    assert _state(bucket_trials, tmp_path / "copy", one) == ("done", None)
    assert not bucket_trials.bucket.list(work_prefix(one))
    assert _train(bucket_trials, one) == first


def test_child_starts_from_its_parent(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """The parent's finished folder is brought and verified; without it the trial is blocked."""
    parent = spec(tmp_path / "copy", "parent")
    child = spec(tmp_path / "copy", "child", parent=parent)
    with pytest.raises(Exception, match=r"blocked by stub/parent seed 0 \(not finished\)"):
        _train(bucket_trials, child)
    _train(bucket_trials, parent)
    _train(bucket_trials, child)
    assert _state(bucket_trials, tmp_path / "copy", child) == ("done", None)


def test_failure_comes_home_with_its_log(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """What a failed trial leaves is in the bucket: the reason, the log, the checkpoint."""
    one = spec(tmp_path / "copy", "fails")
    _train(bucket_trials, one)
    assert _state(bucket_trials, tmp_path / "copy", one) == ("failed", "the loss is nan at epoch 0, step 3")
    names = {key.rpartition("/")[2].partition(".pt.")[0] for key in bucket_trials.bucket.list(work_prefix(one))}
    assert names == {RECORD_FILE, LOG_FILE, "checkpoint"}


def test_stop_is_heard_and_the_checkpoint_kept(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """The mark in the bucket stops a running trial, whose checkpoint is in the bucket then and comes back."""
    one = spec(tmp_path / "copy", "slow", epochs=20)
    threading.Timer(0.5, bucket_trials.ask_to_stop).start()
    assert _train(bucket_trials, one) is None
    assert _state(bucket_trials, tmp_path / "copy", one)[0] == "partial"
    bucket_trials.bucket.delete("drivers/run-1/stop")
    with RemoteStaging(bucket_trials).open(one) as (here, _):
        work = next(here.results_dir.glob("trials/stub/slow/*/seed-0.work"))
        assert (work / CHECKPOINT_FILE).read_bytes() == b"checkpoint"
        folder = here.results_dir
    assert not folder.exists()


def test_checkpoints_are_carried_while_it_trains(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """A process that is killed loses what came after its last checkpoint, no more: that one is in the bucket."""
    one = spec(tmp_path / "copy")
    with RemoteStaging(bucket_trials).open(one) as (here, _):
        work = next(here.results_dir.glob("trials/stub/ok/*")) / "seed-0.work"
        (work / CHECKPOINT_FILE).write_bytes(b"epoch 1")
        wait_for("a checkpoint in the bucket", lambda: CHECKPOINT_FILE in str(bucket_trials.bucket.list("trials/")))


def test_trains_on_while_the_server_is_away(s3: s3_server.S3, bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """The line is cut when training begins and mended long after its end: the result arrives all the same."""
    one = spec(tmp_path / "copy")
    with RemoteStaging(bucket_trials, 60.0).open(one) as (here, should_stop):
        s3.line.cut()
        threading.Timer(2.0, s3.line.mend).start()
        assert run_spec(here, Hooks(should_stop=should_stop), train=TRAIN) is not None
        assert not s3.behind(tmp_path.name).list(finished_prefix(one))
    assert _state(bucket_trials, tmp_path / "copy", one) == ("done", None)


def test_away_for_good_is_said(s3: s3_server.S3, bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """Out of reach before it begins: this machine is unfit, says why, and has trained nothing."""
    s3.line.cut()
    try:
        with pytest.raises(NodeUnusableError, match=r"reading stub/ok/.* from s3://results/.* did not succeed within"):
            _train(bucket_trials, spec(tmp_path / "copy"), patience=3.0)
    finally:
        s3.line.mend()


def test_late_loser_changes_nothing(bucket_trials: BucketTrials, tmp_path: Path) -> None:
    """A process that was cut off while its trial was given to another one commits late: what stands stays."""
    one = spec(tmp_path / "copy")
    with RemoteStaging(bucket_trials).open(one) as (here, _):
        run_spec(here, train=TRAIN)
        write_finished(tmp_path / "other", one, accuracy=0.9)
        assert bucket_trials.commit(one, tmp_path / "other")
        before = bucket_trials.bucket.list(finished_prefix(one))
    assert bucket_trials.bucket.list(finished_prefix(one)) == before


def test_probe_of_a_machine(s3: s3_server.S3, bucket_trials: BucketTrials) -> None:
    """A machine reads the driver's word and its answer arrives; one that does not reach the bucket says so."""
    staging = RemoteStaging(bucket_trials)
    staging.write_marker("word")
    assert staging.probe("word", "node1") == ""
    assert staging.answered("word", "node1")
    assert not staging.answered("word", "node2")
    assert "does not see what the driver wrote" in staging.probe("another", "node1")
    s3.line.cut()
    try:
        assert "the server does not answer" in staging.probe("word", "node1")
    finally:
        s3.line.mend()


def test_a_full_disk_is_not_waited_for() -> None:
    """Out of reach is tried again, with growing pauses, for as long as was said; a full disk is told at once."""
    pauses: list[float] = []
    answers = iter([OSError("away"), OSError("away"), OSError(errno.ENOSPC, "No space left on device")])

    def act() -> None:
        raise next(answers)

    with pytest.raises(OSError, match="No space left"):
        retry(act, "reading", 60.0, pauses.append)
    assert pauses == [0.5, 1.0]
    answers = iter([OSError("away")])
    with pytest.raises(StorageUnreachableError, match="reading did not succeed within 0 s: away"):
        retry(act, "reading", 0.0, pauses.append)
