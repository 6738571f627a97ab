"""The store as frames: what is found, in which state, and that nothing on disk can break the reading."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.stubs.reports_store import row, write_failure, write_running, write_trial

from dnw_core.record import HISTORY_FILE, RECORD_FILE, WIRING_FILE, read_record
from reports import read_history, read_trials, summarise


def test_the_stub_trials_fit_the_schema(tmp_path: Path) -> None:
    """What these tests write is what ``dnw_core`` reads."""
    assert read_record(write_trial(tmp_path, row(), 0) / RECORD_FILE).cost is not None
    assert read_record(write_failure(tmp_path, row(), 1, "the loss is not finite") / RECORD_FILE).status == "failed"


def test_each_state_becomes_a_line(tmp_path: Path) -> None:
    """Done, failed, running and unplanned seeds come as lines with their numbers, in percent, by seed."""
    given = row(seeds=[0, 1, 2, 3])
    write_trial(tmp_path, given, 0, 0.8125)
    write_trial(tmp_path, given, 10, 0.5)
    write_failure(tmp_path, given, 1, "the loss is not finite", "last words")
    write_running(tmp_path, given, 2, epoch=7)
    trials = read_trials(tmp_path, [given])
    assert list(trials["seed"]) == [0, 1, 2, 10]
    assert list(trials["status"]) == ["done", "failed", "running", "done"]
    assert list(trials["planned"]) == [True, True, True, False]
    assert trials["accuracy"][0] == 81.25
    assert (trials["live_parameters"][0], trials["commit"][0], trials["dirty"][0]) == (41_458, "ebb75f6d0c", True)
    assert (trials["reason"][1], trials["log_tail"][1]) == ("the loss is not finite", "last words")
    assert (trials["epochs_done"][2], trials["accuracy"][2], trials["hostname"][2]) == (7, 50.0, "node7")


def test_a_finished_trial_wins_over_its_working_folder(tmp_path: Path) -> None:
    """A working folder left beside a committed trial does not hide it."""
    write_trial(tmp_path, row(), 0)
    write_running(tmp_path, row(), 0, epoch=3)
    assert list(read_trials(tmp_path, [row()])["status"]) == ["done"]


def test_an_ended_trial_that_was_not_committed_is_not_done(tmp_path: Path) -> None:
    """A working folder whose record says done was never committed: it counts as running, not as a result."""
    done = write_trial(tmp_path, row(), 0)
    done.rename(done.with_name("seed-0.work"))
    assert list(read_trials(tmp_path, [row()])["status"]) == ["running"]


def damage(folder: Path, **changes: Any) -> None:
    """Change top-level fields of a trial's record."""
    values = json.loads((folder / RECORD_FILE).read_text("utf-8"))
    (folder / RECORD_FILE).write_text(json.dumps(values | changes), "utf-8")


SCORES = {"epoch": 3, "test_loss": 0.1, "train_loss": 0.1}


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda f: (f / RECORD_FILE).unlink(), "trial.json: not there"),
        (lambda f: (f / RECORD_FILE).write_bytes(b"\xff\xfe{"), "not valid JSON"),
        (lambda f: (f / RECORD_FILE).write_text("[" * 100_000), "not valid JSON"),
        (lambda f: (f / RECORD_FILE).write_text("[1]"), "not a JSON object"),
        (lambda f: (f / RECORD_FILE).write_text("{}"), "no 'version'"),
        (lambda f: damage(f, version=99), "written by schema 99"),
        (lambda f: damage(f, seed=7), "seed is 7, the folder says 0"),
        (lambda f: damage(f, fingerprint="00000000"), "fingerprint is '00000000'"),
        (lambda f: damage(f, status="failed"), "must be 'done'"),
        (lambda f: damage(f, status="\ud800"), "must be 'done'"),
        (lambda f: damage(f, last=None), "without 'last' scores"),
        (lambda f: damage(f, last=[1]), "last: not a JSON object"),
        (lambda f: damage(f, last=SCORES | {"test_accuracy": float("nan")}), "must be between 0 and 1"),
        (lambda f: damage(f, last=SCORES | {"test_accuracy": 81.2}), "must be between 0 and 1"),
        (lambda f: damage(f, last=SCORES | {"test_accuracy": "0.8"}), "must be a number"),
        (lambda f: damage(f, cost={"edges": 2**70}), "must be a whole number"),
        (lambda f: (f / HISTORY_FILE).write_bytes(b"PAR1"), "history.parquet: altered or truncated"),
        (lambda f: (f / WIRING_FILE).unlink(), "wiring.npz: not there"),
        (lambda f: (shutil.rmtree(f), f.write_text("a file")), "cannot be read"),
    ],
)
def test_a_damaged_trial_is_unreadable_with_its_reason(tmp_path: Path, harm: Any, reason: str) -> None:
    """Whatever is wrong with a folder becomes a line with the reason; it is never done and never an exception."""
    harm(write_trial(tmp_path, row(), 0))
    trials = read_trials(tmp_path, [row()])
    assert list(trials["status"]) == ["unreadable"]
    assert reason in trials["reason"][0]
    assert len(read_history(tmp_path, trials)) == 0
    line = summarise([row()], trials, "paper").iloc[0]
    assert (line["n"], line["verdict"]) == (0, "partial 0/5")


@pytest.mark.parametrize("name", ["../..", "..", ".", "", "a/../../b", "/etc", "x" * 300, "a\0b", "\ud800"])
def test_a_row_id_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """An id that is no folder name finds nothing: nothing outside the results folder is read."""
    (tmp_path / "outside").mkdir()
    write_trial(tmp_path, row(), 0)
    assert len(read_trials(tmp_path / "results", [row(name)])) == 0


def test_history_is_in_percent_and_survives_odd_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The epochs of the finished trials come in percent; a history that cannot be drawn is left out and logged."""
    given = row("static-dnw@optimiser.learning_rate=0.05", epochs=12)
    write_trial(tmp_path, given, 0, 0.8)
    odd = write_trial(tmp_path, given, 1, 0.8)
    (odd / HISTORY_FILE).write_bytes(b"not parquet")
    damage(odd, files={})
    trials = read_trials(tmp_path, [given])
    history = read_history(tmp_path, trials)
    assert list(history["seed"].unique()) == [0]
    assert list(history["epoch"]) == list(range(12))
    assert history["test_accuracy"].iloc[-1] == pytest.approx(80.0)
    assert "seed-1" in caplog.text


def test_nothing_there_gives_empty_typed_frames(tmp_path: Path) -> None:
    """An empty results folder gives frames without lines but with all columns, and the verdict data missing."""
    trials = read_trials(tmp_path, [row()])
    assert len(trials) == 0
    assert len(read_history(tmp_path, trials)) == 0
    line = summarise([row(data_missing="CIFAR-10 is not there")], trials, "paper").iloc[0]
    assert (line["verdict"], line["missing"], line["reason"]) == ("data missing", 5, "CIFAR-10 is not there")


def test_the_summary_by_hand(tmp_path: Path) -> None:
    """Seeds at 80, 81, 82 % against 80 ± 1 (n 4): mean, std, interval, difference, cost and time by hand."""
    given = row(seeds=[0, 1, 2], published_mean=80.0, published_std=1.0, published_n=4)
    for seed, accuracy in enumerate((0.80, 0.81, 0.82)):
        write_trial(tmp_path, given, seed, accuracy, dead=30 * seed)
    write_trial(tmp_path, given, 9, 0.1)  # not planned: does not count
    line = summarise([given], read_trials(tmp_path, [given]), "paper").iloc[0]
    assert (line["n"], line["planned"], line["done"], line["missing"]) == (3, 3, 3, 0)
    assert line["mean"] == pytest.approx(81.0)
    assert line["std"] == pytest.approx(1.0)
    assert line["ci_low"] == pytest.approx(81 - 4.302653 / 3**0.5, abs=1e-5)
    assert line["ci_high"] == pytest.approx(81 + 4.302653 / 3**0.5, abs=1e-5)
    assert line["difference"] == pytest.approx(1.0)
    assert line["verdict"] == "undecided: too few seeds"
    assert line["live_parameters"] == pytest.approx(41_458 - 30)
    assert line["seconds"] == pytest.approx(4211.5)


def test_variants_and_other_scales_have_no_difference(tmp_path: Path) -> None:
    """A --set variant shows no published number; a smoke row shows it, but neither difference nor test."""
    variant, smoke = row("v@a=1", variant=True, seeds=[0, 1]), row("s", scale="smoke", seeds=[0, 1])
    for given in (variant, smoke):
        for seed in (0, 1):
            write_trial(tmp_path, given, seed, 0.80 + 0.01 * seed)
    lines = summarise([variant, smoke], read_trials(tmp_path, [variant, smoke]), "paper")
    assert list(lines["verdict"]) == ["not comparable", "not comparable (smoke: no reproduction)"]
    assert lines["difference"].isna().all()
    assert lines["p_different"].isna().all()
    assert lines["published_mean"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row() | {"publised_mean": 3}], "did you mean 'published_mean'"),
        ([{"table": "tiny", "row": "a", "seeds": [0]}], "row 'a' has no 'fingerprint'"),
        ([row(), row()], "is given twice"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    """A row without its identity, with an unknown field, or given twice is a clear error."""
    with pytest.raises(ValueError, match=message):
        read_trials(tmp_path, rows)
