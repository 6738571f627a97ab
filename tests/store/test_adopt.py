"""Finished trials from another results folder, and trials without their weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.corpus.command import Command, lay_out, quicken, spec_of
from support.corpus.trials import rewrite
from support.stubs.specs import spec
from support.stubs.store import write_finished

from dnw_core.errors import UserError
from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from pipelines.store.adopt import adopt_trials, finished_trials
from pipelines.store.folder import Store
from pipelines.store.left_out import LEFT_OUT_FILE
from pipelines.trial.parents import TrialBlockedError, finished_parent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A results folder with two finished trials."""
    lay_out(tmp_path / "source", (0, 1))
    return tmp_path / "source"


def opened(folder: Path) -> Store:
    """The folder as a command that trains opens it."""
    return Store.open(folder, create=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_trials_are_copied_to_the_bit_and_once(source: Path, tmp_path: Path) -> None:
    """All files of both trials; a second time nothing is written, and the source is never changed."""
    before = contents(source)
    store = opened(tmp_path / "results")
    first = adopt_trials(source, store)
    assert ([one.seed for one in first.copied], first.present) == ([0, 1], [])
    assert contents(store.results_dir / "trials") == contents(source / "trials")
    again = adopt_trials(source, store)
    assert ([one.seed for one in again.present], again.copied) == ([0, 1], [])
    assert contents(source) == before
    assert store.state(spec_of(store.results_dir, 1)).kind == "done"


def test_without_weights_a_trial_is_done_and_starts_no_other(tmp_path: Path) -> None:
    """The record is the same; a child is blocked, with what would help; a copy of the copy lacks them, too."""
    parent = spec(tmp_path / "source", "parent")
    write_finished(opened(tmp_path / "source").folder(parent), parent)
    store = opened(tmp_path / "results")
    adopt_trials(tmp_path / "source", store, weights=False)
    stored = store.state(parent)
    assert (stored.kind, stored.weights) == ("done", False)
    assert not (store.folder(parent) / CHECKPOINT_FILE).exists()
    child = spec(store.results_dir, "child", parent=parent)
    with pytest.raises(TrialBlockedError, match="lacks the weights; --mode force with --only its row trains it again"):
        finished_parent(store, child)
    assert len(adopt_trials(tmp_path / "source", store).copied) == 1  # now with them
    assert finished_parent(store, child) == store.folder(parent)
    shutil.rmtree(store.folder(parent))
    adopt_trials(tmp_path / "source", store, weights=False)
    further = opened(tmp_path / "further")
    adopt_trials(store.results_dir, further)
    assert contents(further.results_dir / "trials") == contents(store.results_dir / "trials")
    assert further.state(parent).kind == "done"


@pytest.mark.parametrize("harm", ["another file", "another hash", "nonsense", "gone", "more"])
def test_only_what_is_said_to_be_left_out_may_be_missing(harm: str, source: Path, tmp_path: Path) -> None:
    """A missing checkpoint that nothing vouches for is damage, as is any other missing file."""
    store = opened(tmp_path / "results")
    adopt_trials(source, store, weights=False)
    trial = spec_of(store.results_dir, 0)
    path = store.folder(trial) / LEFT_OUT_FILE
    values = json.loads(path.read_text())
    if harm == "another file":
        (store.folder(trial) / "history.parquet").unlink()
    elif harm == "another hash":
        path.write_text(json.dumps(values | {"files": {CHECKPOINT_FILE: "0" * 64}}))
    elif harm == "nonsense":
        path.write_text("[")
    elif harm == "gone":
        path.unlink()
    else:
        path.write_text(json.dumps(values | {"files": values["files"] | {"log.txt": "0"}}))
    state = store.state(trial)
    assert state.kind == "new"
    assert state.damaged is not None
    assert "cannot be read" in state.damaged


def test_weights_that_are_put_back_are_verified(source: Path, tmp_path: Path) -> None:
    """The trial's own complete it again; any others are damage, whatever is said to be left out."""
    store = opened(tmp_path / "results")
    adopt_trials(source, store, weights=False)
    trial = spec_of(store.results_dir, 0)
    path = store.folder(trial) / CHECKPOINT_FILE
    shutil.copyfile(Store.open(source).folder(spec_of(source, 0)) / CHECKPOINT_FILE, path)
    assert store.state(trial).weights
    path.write_bytes(b"other weights")
    assert "checkpoint.pt: truncated or altered" in str(store.state(trial).damaged)


def _other_bits(source: Path) -> None:
    def better(values: dict[str, dict[str, float]]) -> None:
        values["last"]["test_accuracy"] = values["best"]["test_accuracy"] = 0.99

    rewrite(_second(source), better, seal=True)


def _second(source: Path) -> Path:
    return Store.open(source).folder(spec_of(source, 1))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged": (
        lambda source: (_second(source) / "log.txt").write_text("x"),
        r"seed-1: log\.txt: truncated or altered",
    ),
    "no record": (lambda source: (_second(source) / RECORD_FILE).unlink(), r"seed-1: trial\.json cannot be read"),
    "another's": (
        lambda source: _second(source).rename(_second(source).with_name("seed-7")),
        "holds another trial's record",
    ),
    "newer": (lambda source: rewrite(_second(source), lambda values: values.update(version=99), seal=True), "newer"),
    "no folder": (lambda source: (source / "store.json").unlink(), "not a results folder: it has no store.json"),
    "newer folder": (lambda source: (source / "store.json").write_text('{"schema": 99}'), "newer version"),
    "empty": (lambda source: shutil.rmtree(source / "trials"), "holds no finished trial; give the folder"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_cannot_be_vouched_for_is_refused_before_a_copy(name: str, source: Path, tmp_path: Path) -> None:
    """Each is one line that names the folder, and not even the good trial is taken."""
    harm, message = DAMAGES[name]
    harm(source)
    store = opened(tmp_path / "results")
    with pytest.raises(UserError, match=message):
        adopt_trials(source, store)
    assert sorted(path.name for path in store.results_dir.iterdir()) == ["store.json"]


def test_other_results_of_the_same_trial_are_refused(source: Path, tmp_path: Path) -> None:
    """With both accuracies; nothing is replaced."""
    store = opened(tmp_path / "results")
    lay_out(store.results_dir, (1,))
    before = contents(store.results_dir)
    _other_bits(source)
    with pytest.raises(UserError, match=r"holds this trial with other results \(\d\d\.\d\d % there, 99\.00 % here\)"):
        adopt_trials(source, store)
    assert contents(store.results_dir) == before


def test_a_damaged_trial_and_one_that_was_begun_make_room(source: Path, tmp_path: Path) -> None:
    """Both go to set-aside/; unfinished trials of the source are passed over."""
    store = opened(tmp_path / "results")
    lay_out(store.results_dir, (0,))
    (store.folder(spec_of(store.results_dir, 0)) / "log.txt").write_text("x")
    begun = store.work_folder(spec_of(store.results_dir, 1))
    (begun / CHECKPOINT_FILE).write_text("x")
    Store.open(source).work_folder(spec_of(source, 2))
    assert len(adopt_trials(source, store).copied) == 2
    assert len(finished_trials(store.results_dir)) == 2
    aside = sorted(path.name[:6] for path in (store.results_dir / "set-aside").glob("*/*/*/*"))
    assert aside == ["seed-0", "seed-1"]


def test_the_command_adopts_and_trains_the_rest(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three seeds are taken over, one is trained, and the report has all three."""
    command = Command(tmp_path / "results", capsys)
    command.seeds = (0, 1, 2)
    quicken(monkeypatch, command)
    said = command("--adopt", str(source))
    assert said.code == 0
    assert f"2 finished trials adopted from {source}\n" in said.out
    assert command.trained == [2]
    assert command.statuses() == {0: "done", 1: "done", 2: "done"}
    assert "0 finished trials adopted" in command("--adopt", str(source), "--report-only").out
    for look in ("--plan", "--status", "--list"):
        assert command("--adopt", str(source), look).refused
    (tmp_path / "nothing").mkdir()
    assert "is not a results folder" in command("--adopt", str(tmp_path / "nothing")).err
