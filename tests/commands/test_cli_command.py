"""The command from its words to its exit code; the scheduling is a stub that writes results in milliseconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.stubs.command import StubSchedule

from dnw_core.errors import UserError
from pipelines.commands import reproduce_all as cli
from pipelines.commands.reproduce_all import main
from pipelines.driver.lock import driver_lock, lock_owner
from pipelines.plan import placement
from pipelines.store.folder import Store
from tune_configs import load_tables

ROW = ["--only", "tiny/static-dnw"]


def test_a_run_trains_what_is_missing_once(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command trains everything and writes a report; the same one again trains nothing."""
    assert main(ROW) == 0
    assert [(spec.row, spec.seed) for spec in stub.ran] == [("static-dnw", 0), ("static-dnw", 1)]
    said = capsys.readouterr().out
    assert "2 of 2 trials done, 0 failed, 0 missing" in said
    assert "report: results/results.md" in said
    assert "python pipelines/reproduce_all.py --only tiny/static-dnw" in (results / "results.md").read_text()
    assert main(ROW) == 0
    assert len(stub.ran) == 2
    assert main([*ROW, "--seeds", "0,5"]) == 0
    assert [spec.seed for spec in stub.ran] == [0, 1, 5]
    assert main([*ROW, "--mode", "force"]) == 0
    assert len(stub.ran) == 5
    assert lock_owner(results) is None


def test_the_command_of_the_readme_needs_no_word(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an option it trains every row at smoke scale, and says how to make the report again."""
    assert main([]) == 0
    assert len({(spec.table, spec.row) for spec in stub.ran}) > 100
    assert {spec.scale for spec in stub.ran} == {"smoke"}
    assert " trials done, 0 failed, 0 missing" in capsys.readouterr().out
    assert "python pipelines/reproduce_all.py" in (results / "results.md").read_text()


def test_failures_are_kept_until_they_are_retried(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure gives exit code 1 and its reason, now and next time; --mode retry trains it again."""
    stub.fails = {"static-dnw"}
    assert main([*ROW, "--only", "tiny/static-random"]) == 1
    assert "failed: tiny/static-dnw/" in capsys.readouterr().out
    stub.fails = set()
    ran = len(stub.ran)
    assert main(ROW) == 1
    assert len(stub.ran) == ran
    assert "the loss is nan at epoch 1" in capsys.readouterr().out
    assert main([*ROW, "--mode", "retry"]) == 0
    assert len(stub.ran) == ran + 2


def test_reading_only_trains_nothing(stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--mode read-only and --report-only write the report alone; the former says by its exit code what is missing."""
    assert main([*ROW, "--report-only"]) == 2
    assert "error: there is no results folder" in capsys.readouterr().err
    main(ROW)
    stub.ran.clear()
    (results / "results.md").unlink()
    with driver_lock(results):  # a driver is at work, and reading is not held up
        assert main([*ROW, "--mode", "read-only"]) == 0
        assert main([*ROW, "--seeds", "3", "--mode", "read-only"]) == 1
        assert main([*ROW, "--seeds", "3", "--report-only"]) == 0
        for look in ("--plan", "--status", "--list"):
            assert main([*ROW, look]) == 0
        assert "at work: process" in capsys.readouterr().out
        assert main(ROW) == 2
        assert re.search(r"^error: .*results is in use by process \d+ on ", capsys.readouterr().err)
    assert (results / "results.md").exists()
    assert stub.ran == []


def test_ctrl_c_says_how_to_go_on(stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted run ends with 130 and the command that goes on, which does only what is left."""
    stub.interrupt_after = 1
    assert main([*ROW, "--mode", "force"]) == 130
    said = capsys.readouterr().err
    assert said.endswith("To resume: python pipelines/reproduce_all.py --only tiny/static-dnw\n")
    stub.interrupt_after = None
    stub.ran.clear()
    assert main(ROW) == 0
    assert [spec.seed for spec in stub.ran] == [1]


def test_ctrl_c_anywhere_leaves_no_traceback(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C outside of the training ends the same way."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "check_data", interrupt)
    assert main(ROW) == 130
    assert "To resume: python pipelines/reproduce_all.py --only tiny/static-dnw" in capsys.readouterr().err
    assert lock_owner(results) is None


def test_a_variant_is_trained_under_its_own_name(stub: StubSchedule, results: Path) -> None:
    """--set trains a variant beside the row, never in its place."""
    assert main([*ROW, "--set", "optimiser.learning_rate=5e-2"]) == 0
    assert {spec.row for spec in stub.ran} == {"static-dnw@optimiser.learning_rate=0.05"}
    assert main(ROW) == 0
    assert len(stub.ran) == 4
    report = (results / "results.md").read_text()
    assert report.endswith("static-dnw\nstatic-dnw@optimiser.learning_rate=0.05")


def test_a_damaged_result_is_trained_again(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A result whose files changed is moved aside, said, and trained again."""
    main(ROW)
    folder = Store.open(results).folder(stub.ran[0])
    (folder / "history.parquet").write_bytes(b"")
    capsys.readouterr()
    assert main(ROW) == 0
    assert len(stub.ran) == 3
    assert "warning: tiny/static-dnw/" in capsys.readouterr().out


def test_planning_writes_nothing(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--plan, --list and --status leave the disk as it was."""
    for look in ("--plan", "--list", "--status"):
        assert main([look]) == 0
    assert list(results.parent.iterdir()) == []
    said = capsys.readouterr().out
    plans = [
        (table.default_seeds.smoke, row.recipe_at("smoke").epochs)
        for table in load_tables().values()
        for row in table.rows.values()
        if row.not_reproducible is None
    ]
    trials, epochs = sum(seeds for seeds, _ in plans), sum(seeds * each for seeds, each in plans)
    assert f"{len(plans)} rows, {trials} trials: 0 done, {trials} to be trained, {epochs} epochs" in said
    assert "80.9 ± 0.6 (n 5, assumed)" in said


def test_a_mistyped_folder_shows_in_the_status(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--status of a folder that is not there says so, instead of rows that nobody has trained yet, and makes none."""
    assert main([*ROW, "--status", "--results-dir", "resluts"]) == 0
    assert capsys.readouterr().out.startswith(f"scale smoke; there is no results folder {results.parent}/resluts yet\n")
    assert not results.with_name("resluts").exists()
    main(ROW)
    capsys.readouterr()
    assert main([*ROW, "--status"]) == 0
    assert "no results folder" not in capsys.readouterr().out


def test_a_cluster_means_paper_and_gpus(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --cluster the scale is paper unless one is given."""
    assert main(["--cluster", "--plan", "--no-extra"]) == 0
    assert "scale paper" in capsys.readouterr().out
    assert main(["--cluster", "10.0.0.1:6379", "--scale", "short", "--plan"]) == 0
    assert "scale short" in capsys.readouterr().out


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto follows the machine; torch has the last word when trials are to run."""
    monkeypatch.setattr(placement, "gpu_count", lambda: 1)
    monkeypatch.setattr(placement, "_torch_sees_gpu", lambda: True)
    wishes: dict[str, Any] = {"cluster": False, "trials_per_gpu": 2, "planning": False}
    assert placement.choose_device("auto", **wishes) == "cuda"
    assert placement.choose_device("cpu", **wishes | {"trials_per_gpu": None}) == "cpu"
    monkeypatch.setattr(placement, "_torch_sees_gpu", lambda: False)
    assert placement.choose_device("auto", **wishes | {"trials_per_gpu": None}) == "cpu"
    with pytest.raises(UserError, match="trials-per-gpu"):
        placement.choose_device("auto", **wishes)
