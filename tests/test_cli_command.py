"""The command from its words to its exit code; the scheduling is a stub that writes results in milliseconds."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import synthetic_cifar
from stub_command import StubSchedule, quick_command

from dnw_core.errors import UserError
from pipelines import cli, placement
from pipelines.cli import main
from pipelines.lock import driver_lock, lock_owner
from pipelines.store import Store
from tune_configs import load_tables


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubSchedule:
    """The scheduling that trains nothing."""
    return quick_command(monkeypatch)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with results/ in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"


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
    assert said.endswith("To go on: python pipelines/reproduce_all.py --only tiny/static-dnw\n")
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
    assert "To go on: python pipelines/reproduce_all.py --only tiny/static-dnw" in capsys.readouterr().err
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


CHILD = ["--only", "wirings/fine-tune"]


def test_a_row_brings_its_parent_along(stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--only of a row that needs another one trains both, parents first, once; the report has both."""
    assert main(CHILD) == 0
    trained = [(spec.row, spec.seed) for spec in stub.ran]
    assert trained == [("complete", 0), ("complete", 1), ("fine-tune", 0), ("fine-tune", 1)]
    assert "4 of 4 trials done, 0 failed, 0 missing" in capsys.readouterr().out
    assert (results / "results.md").read_text().endswith("complete\nfine-tune")
    assert main(CHILD) == 0
    assert main(["--only", "wirings/lottery-one-shot"]) == 0
    assert [spec.row for spec in stub.ran[4:]] == ["lottery-one-shot"] * 2
    stub.ran.clear()
    assert main([*CHILD, "--mode", "force"]) == 0
    assert [spec.row for spec in stub.ran] == ["fine-tune"] * 2
    stub.ran.clear()
    assert main([*CHILD, "--set", "batch_size=32", "--set", "wiring.width=0.3", "--seeds", "1"]) == 0
    assert [spec.row for spec in stub.ran] == ["complete@batch_size=32", "fine-tune@batch_size=32,wiring.width=0.3"]


def test_a_failed_parent_blocks_and_the_rest_goes_on(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocked trials count as missing, now and next time, with the reason; --mode retry trains parent and child."""
    stub.fails = {"complete"}
    words = [*CHILD, "--only", "tiny/static-dnw", "--seeds", "1"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "not trained: wirings/fine-tune/" in said
    assert "blocked by wirings/complete seed 0 (failed: the loss is nan at epoch 1)" in said
    assert "1 of 3 trials done, 1 failed, 1 missing (1 of them blocked)" in said
    assert "again: the same command with --mode retry" in said
    ran = len(stub.ran)
    assert main(words) == 1
    assert len(stub.ran) == ran
    said = capsys.readouterr().out
    assert "1 of 2 trials done, 0 failed, 1 missing (1 of them blocked)" in said
    assert "again: the same command with --mode retry" in said
    assert main([*words, "--mode", "read-only"]) == 1
    stub.fails = set()
    assert main([*words, "--mode", "retry"]) == 0
    assert [spec.row for spec in stub.ran[ran:]] == ["complete", "fine-tune"]


LOST = ["--only", "imagenet/mnasnet-search1"]


def test_a_row_that_cannot_be_reproduced_is_shown_and_never_missing(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone there is nothing to train, in one line; beside another row it stands in its place and all is done."""
    assert main(LOST) == 2
    lost = "imagenet/mnasnet-search1 is not reproducible (architecture unpublished)"
    assert capsys.readouterr().err == f"error: nothing to train: {lost}; name other rows with --only\n"
    assert not results.exists()
    words = [*LOST, "--only", "imagenet/dnw-x0.[23]*", "--seeds", "1"]
    assert main(words) == 0
    assert "2 of 2 trials done, 0 failed, 0 missing" in capsys.readouterr().out
    assert (results / "results.md").read_text().endswith("dnw-x0.225\nmnasnet-search1\ndnw-x0.3")
    for look in ("--list", "--plan", "--status"):
        assert main([*words, look]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("imagenet/")]
        assert [line.split()[0] for line in lines] == [
            "imagenet/dnw-x0.225",
            "imagenet/mnasnet-search1",
            "imagenet/dnw-x0.3",
        ], look
        assert "not reproducible: architecture unpublished" in lines[1]
        assert main([*LOST, look]) == 0
        assert "not reproducible: architecture unpublished" in capsys.readouterr().out
    stub.ran.clear()
    assert main([*LOST, "--report-only"]) == 0
    assert main([*LOST, "--mode", "read-only"]) == 0
    assert stub.ran == []


def test_rows_without_their_data_are_left_out(
    stub: StubSchedule, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are trained: one warning a data set, exit code 1; with none of the data left, exit code 2."""
    import reports

    synthetic_cifar.pin(monkeypatch)
    synthetic_cifar.write_parquet(results.parent / "data" / "cifar10")
    shown: list[dict[str, Any]] = []

    def report(results_dir: Path, rows: list[dict[str, Any]], **_: Any) -> SimpleNamespace:
        shown.extend(rows)
        return SimpleNamespace(markdown=results_dir / "results.md")

    monkeypatch.setattr(reports, "build_report", report)
    words = ["--scale", "short", "--data-dir", "data", "--cache-dir", "cache", "--seeds", "1"]
    words += ["--only", "tiny/static-dnw", "--only", "imagenet/dnw-x0.3", "--only", "imagenet/xception-x1"]
    assert main(words) == 1
    streams = capsys.readouterr()
    assert [spec.row for spec in stub.ran] == ["static-dnw"]
    warnings = [line for line in streams.out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: data missing, 2 rows are left out: image-folder was not found in ")
    assert "1 of 3 trials done, 0 failed, 2 missing (2 of them for want of data)" in streams.out
    assert "with --mode retry" not in streams.out
    reasons = {row["row"]: row["data_missing"] for row in shown}
    assert reasons.pop("static-dnw") is None
    assert set(reasons) == {"dnw-x0.3", "xception-x1"}
    assert all(reason.startswith("image-folder was not found") for reason in reasons.values())

    assert main(words) == 2  # nothing of what is left has its data
    assert capsys.readouterr().err.startswith("error: image-folder was not found in ")
    assert main([*words, "--mode", "read-only"]) == 1
    assert "(2 of them for want of data)" in capsys.readouterr().out
    (results.parent / "data" / "cifar10" / "train-00000-of-00002.parquet").write_bytes(b"PAR1")
    stub.ran.clear()
    assert main([*words, "--mode", "force"]) == 2  # what is there but broken is never left out
    assert "train-00000-of-00002.parquet" in capsys.readouterr().err
    assert stub.ran == []


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
    assert placement.settle_device("auto", **wishes) == "cuda"
    assert placement.settle_device("cpu", **wishes | {"trials_per_gpu": None}) == "cpu"
    monkeypatch.setattr(placement, "_torch_sees_gpu", lambda: False)
    assert placement.settle_device("auto", **wishes | {"trials_per_gpu": None}) == "cpu"
    with pytest.raises(UserError, match="trials-per-gpu"):
        placement.settle_device("auto", **wishes)
