"""One trial without Ray: whatever happens in it ends as a row in the store, and nothing is trained twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs.specs import TRAIN, spec

from dnw_core.record import EpochMetrics, read_record
from dnw_core.task import Hooks
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from pipelines.trial.parents import TrialBlockedError
from pipelines.trial.run import read_tail, run_spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store.open(tmp_path, create=True)


def test_finished_trial_is_committed(store: Store) -> None:
    """A trial that ends well is done in the store, its working folder is gone, and every epoch was told."""
    one = spec(store.results_dir, epochs=3)
    epochs: list[EpochMetrics] = []
    record = run_spec(one, Hooks(epochs.append), train=TRAIN)
    assert record is not None
    assert record.status == "done"
    assert store.state(one).kind == "done"
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2]
    assert not store.folder(one).with_name("seed-0.work").exists()


def test_done_trial_is_not_trained_again(store: Store) -> None:
    """A second call returns the record that is there and writes nothing."""
    one = spec(store.results_dir)
    first = run_spec(one, train=TRAIN)
    log = (store.folder(one) / "log.txt").read_text()
    assert run_spec(one, train="no.such.module:function") == first
    assert (store.folder(one) / "log.txt").read_text() == log


def test_failed_trial_is_a_row(store: Store) -> None:
    """TrialFailedError becomes a failed record with its reason and the end of the log; nothing is raised."""
    one = spec(store.results_dir, "fails")
    record = run_spec(one, train=TRAIN)
    assert record is not None
    assert (record.status, record.reason) == ("failed", "the loss is nan at epoch 0, step 3")
    assert record.log_tail is not None
    assert "begins fails seed 0" in record.log_tail
    assert store.state(one).kind == "failed"


def test_bug_is_recorded_with_its_traceback(store: Store) -> None:
    """An exception nobody expected is a failed trial too: a reason of one line, the traceback in the tail."""
    one = spec(store.results_dir, "raises")
    run_spec(one, train=TRAIN)
    record = read_record(store.work_folder(one) / "trial.json")
    assert record.reason == "KeyError: 'a bug'"
    assert record.log_tail is not None
    assert "training.py" in record.log_tail
    assert "Traceback" in record.log_tail


def test_stopped_trial_leaves_its_checkpoint(store: Store) -> None:
    """Told to stop, a trial returns nothing, is neither done nor failed, and keeps its checkpoint."""
    one = spec(store.results_dir, "slow")
    assert run_spec(one, Hooks(should_stop=lambda: True), train=TRAIN) is None
    assert store.state(one).kind == "partial"
    assert (store.work_folder(one) / "checkpoint.pt").exists()


def test_lost_race_keeps_the_first_result(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the same trial was committed from elsewhere meanwhile, that one stands and is returned."""
    one = spec(store.results_dir)
    run_spec(one, train=TRAIN)
    states = [store.state(one).__class__("new")]
    real = Store.state
    monkeypatch.setattr(Store, "state", lambda self, which: states.pop() if states else real(self, which))
    log = (store.folder(one) / "log.txt").read_text()
    record = run_spec(one, train=TRAIN)
    assert record is not None
    assert record.status == "done"
    assert (store.folder(one) / "log.txt").read_text() == log


def test_a_child_gets_its_parents_folder(store: Store) -> None:
    """The function that trains is told where the finished parent lies, by a specification that went through JSON."""
    parent = spec(store.results_dir)
    child = spec(store.results_dir, "child", parent=parent)
    run_spec(parent, train=TRAIN)
    again = TrialSpec.model_validate_json(child.model_dump_json())
    assert again == child
    assert run_spec(again, train=TRAIN) is not None
    assert (store.folder(child) / "log.txt").read_text().strip().endswith(f"from {store.folder(parent)}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("absent", "blocked by stub/ok seed 0 (not finished)"),
        ("failed", "blocked by stub/ok seed 0 (failed: the loss is nan)"),
        (
            "damaged",
            "blocked by stub/ok seed 0 (its finished folder failed verification: checkpoint.pt: truncated or altered",
        ),
        ("another", "blocked by stub/ok seed 0 (its finished folder failed verification: trial.json: seed is 1, not 0"),
    ],
)
def test_a_child_without_its_parent_is_blocked(store: Store, spoil: str, message: str) -> None:
    """A parent that is missing, failed, damaged or another trial's blocks its child, which leaves nothing behind."""
    parent = spec(store.results_dir)
    child = spec(store.results_dir, "child", parent=parent)
    if spoil == "failed":
        store.record_failure(parent, "the loss is nan")
    elif spoil == "damaged":
        run_spec(parent, train=TRAIN)
        (store.folder(parent) / "checkpoint.pt").write_bytes(b"cut")
    elif spoil == "another":
        other = spec(store.results_dir, seed=1)
        run_spec(other, train=TRAIN)
        store.folder(other).rename(store.folder(parent))
    with pytest.raises(TrialBlockedError) as caught:
        run_spec(child, train=TRAIN)
    assert str(caught.value).startswith(message)
    assert list((store.results_dir / "trials" / "stub").glob("child*")) == []


def test_tail_is_the_end_of_the_log(tmp_path: Path) -> None:
    """The tail has the last lines only, also of a log with broken bytes, and a missing log is empty."""
    path = tmp_path / "log.txt"
    path.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % number for number in range(1000)))
    assert read_tail(path, 3).splitlines() == ["line 997", "line 998", "line 999"]
    assert read_tail(tmp_path / "none") == ""
