"""Rows that need more than themselves: a parent's trials, data that are not there, a recipe that nobody published."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.images import synthetic_cifar
from support.stubs.command import StubSchedule

from pipelines.commands.reproduce_all import main

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
    assert "1 of 3 trials done, 0 failed, 2 missing (2 of them without data)" in streams.out
    assert "with --mode retry" not in streams.out
    reasons = {row["row"]: row["data_missing"] for row in shown}
    assert reasons.pop("static-dnw") is None
    assert set(reasons) == {"dnw-x0.3", "xception-x1"}
    assert all(reason.startswith("image-folder was not found") for reason in reasons.values())

    assert main(words) == 2  # nothing of what is left has its data
    assert capsys.readouterr().err.startswith("error: image-folder was not found in ")
    assert main([*words, "--mode", "read-only"]) == 1
    assert "(2 of them without data)" in capsys.readouterr().out
    (results.parent / "data" / "cifar10" / "train-00000-of-00002.parquet").write_bytes(b"PAR1")
    stub.ran.clear()
    assert main([*words, "--mode", "force"]) == 2  # what is there but broken is never left out
    assert "train-00000-of-00002.parquet" in capsys.readouterr().err
    assert stub.ran == []
