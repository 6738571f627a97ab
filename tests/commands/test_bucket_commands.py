"""Every command that reads results reads a bucket, too; those that need a folder say so in a line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from support.services import s3_server
from support.stubs.specs import TRAIN, spec

from pipelines.commands import costs, prepare, search, sync_mlflow
from pipelines.commands.reproduce_all import main
from pipelines.storage.bucket.client import Bucket
from pipelines.storage.bucket.mirror import mirror_folder
from pipelines.storage.bucket.trials import BucketTrials
from pipelines.store.folder import Store
from pipelines.trial.run import run_spec

PLACE = "s3://results/lab"
ROW = ["--only", "tiny/static-dnw", "--no-extra"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of buckets go here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(s3: s3_server.S3, tmp_path: Path) -> Bucket:
    """Have one finished trial in the bucket."""
    bucket = s3.bucket("lab")
    one = spec(mirror_folder(PLACE))
    if not bucket.list("trials/"):
        bucket.put("store.json", b'{"schema": 1, "layout": "bucket"}\n')
        made = spec(tmp_path / "made")
        store = Store.open(tmp_path / "made", create=True)
        run_spec(made, train=TRAIN)
        BucketTrials(bucket, "drivers/run-1/").commit(one, store.folder(made))
    return bucket


def test_tracker_is_rebuilt_from_a_bucket(
    s3: s3_server.S3, tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    """Its runs lie in this machine's copy, which holds no checkpoint."""
    fill(s3, tmp_path)
    assert sync_mlflow.main(["--results-dir", PLACE]) == 0, capsys.readouterr().err
    database = mirror_folder(PLACE) / "mlflow" / "mlflow.db"
    assert database.is_relative_to(cache)
    assert not [file for file in mirror_folder(PLACE).rglob("checkpoint.pt") if file.stat().st_size]
    with sqlite3.connect(database) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM runs")]
    assert any("seed 0" in name for name in names)


def test_costs_are_read_from_a_bucket(s3: s3_server.S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bucket that is there is read, one that is not is a line."""
    fill(s3, tmp_path)
    lost = ["--only", "imagenet/mnasnet-search1"]
    assert costs.main([*lost, "--results-dir", PLACE]) == 0, capsys.readouterr().err
    assert costs.main([*lost, "--results-dir", "s3://nowhere/lab"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: results in s3://nowhere/lab cannot be used: there is no such bucket")


def test_report_alone_goes_home(s3: s3_server.S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--report-only brings the report to the bucket, as it writes it into a folder."""
    bucket = fill(s3, tmp_path)
    assert main([*ROW, "--results-dir", PLACE, "--report-only"]) == 0, capsys.readouterr().err
    assert bucket.get("results.md") == (mirror_folder(PLACE) / "results.md").read_bytes()
    assert bucket.get("results.parquet")
    assert not bucket.list("mlflow")


def test_report_of_a_reader_stays_here(
    s3: s3_server.S3, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not write to the bucket has the report in the copy, and is told so at once."""
    fill(s3, tmp_path)

    def deny(*_: object) -> None:
        raise OSError("status code: 403 Forbidden")

    monkeypatch.setattr(Bucket, "put", deny)
    assert main([*ROW, "--results-dir", PLACE, "--report-only"]) == 0
    said = capsys.readouterr().out
    assert f"warning: the report is not in {PLACE} (results in {PLACE} cannot be used: access is denied" in said
    assert (mirror_folder(PLACE) / "results.md").is_file()


def test_nobody_to_stop_is_said_of_the_bucket(
    s3: s3_server.S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user named a bucket, and hears of no copy."""
    fill(s3, tmp_path)
    assert main(["--stop", "--results-dir", PLACE]) == 0
    assert capsys.readouterr().out == f"no driver is at work on {PLACE}\n"


def test_a_folder_is_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a folder of this machine is needed an address is refused; none is made with such a name."""
    monkeypatch.chdir(tmp_path)
    searched = ["--row", "wirings/l1-anneal", "--plan"]
    assert search.main([*searched, "--results-dir", PLACE]) == 2
    assert search.main([*searched, "--out", "s3://results/found.yaml"]) == 2
    assert main(["--plan", "--cache-dir", PLACE]) == 2
    assert costs.main(["--json", "s3://results/costs.json"]) == 2
    assert prepare.main(["--cache-dir", PLACE]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all("is an address; give a folder or file on this machine" in line for line in lines)
    assert not list(tmp_path.glob("s3*"))


def test_sync_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown option and a word too many."""
    assert sync_mlflow.main(["--result-dir", "x"]) == 2
    assert sync_mlflow.main(["results"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: unknown option --result-dir; did you mean '--results-dir'?"
    assert second == "error: unexpected argument 'results'; name the folder with --results-dir"
