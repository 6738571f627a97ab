"""The tracker mirrors the store: completely, without duplicates, again and again, and it never stands in the way."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import TRAIN, closed_address, report_row, spec

from pipelines.commands.sync_mlflow import main as sync_main
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from pipelines.tracking.content import LONGEST_TAG, trial_content
from pipelines.tracking.tracker import SyncOutcome, Tracker, describe
from pipelines.trial.run import run_spec

VARIANT = "ok@optimiser.learning_rate=0.05"


@pytest.fixture
def results(tmp_path: Path, empty_database: bytes) -> Path:
    """Return a results folder with two finished, one failed trial, and a variant's."""
    Store.open(tmp_path, create=True)
    for one in _specs(tmp_path):
        run_spec(one, train=TRAIN)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(empty_database)
    return tmp_path


def _specs(results: Path) -> list[TrialSpec]:
    return [spec(results, "ok", 0), spec(results, "ok", 1), spec(results, "fails", 0), spec(results, VARIANT, 0)]


def _rows(results: Path) -> list[dict[str, object]]:
    return [report_row(spec(results, row)) for row in ("ok", "fails", VARIANT)]


def _runs(results: Path) -> dict[str, Any]:
    """Return the living runs of the experiment by identity; a duplicate fails the test."""
    client = Tracker(None, results)._connect()
    found = client.search_runs([client.get_experiment_by_name("stub").experiment_id])
    by_identity = {run.data.tags["identity"]: run for run in found}
    assert len(by_identity) == len(found), "a trial or row has two runs"
    return by_identity


def test_mirror_holds_everything(results: Path) -> None:
    """Rows are parent runs with statistics, seeds child runs with every epoch, recipe, provenance and files."""
    outcome = Tracker(None, results).sync(_rows(results))
    assert (outcome.error, outcome.skipped, outcome.created) == (None, [], 3 + 4)
    runs = _runs(results)
    mark = spec(results).fingerprint
    row, child = runs[f"stub/ok/{mark}"], runs[f"stub/ok/{mark}/seed-1"]
    assert row.data.metrics["test_accuracy_percent_mean"] == pytest.approx(60.5)
    assert row.data.metrics["test_accuracy_percent_std"] == pytest.approx(0.5**0.5)
    assert row.data.metrics["seeds_done"] == 2
    assert row.data.tags["published"] == "80.9 ± 0.6"
    assert row.data.tags["verdict"] == "not comparable (smoke: no reproduction)"
    assert row.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == row.info.run_id
    assert child.data.tags["trial_id"] == f"stub/ok/{mark}/seed-1"
    assert child.data.tags["commit"] == "0" * 40
    assert child.data.params["optimiser.learning_rate"] == "0.1"
    assert child.data.params["seed"] == "1"

    client = Tracker(None, results)._connect()
    curve = client.get_metric_history(child.info.run_id, "test_accuracy_percent")
    assert [(point.step, point.value) for point in curve] == [(0, pytest.approx(51.0)), (1, pytest.approx(61.0))]
    assert curve[1].timestamp - curve[0].timestamp == 250
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"log.txt", "trial.json", "wiring.png"}
    assert child.info.artifact_uri.startswith((results / "mlflow" / "artifacts").as_uri())

    failed = runs[f"stub/fails/{mark}/seed-0"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["reason"] == "the loss is nan at epoch 0, step 3"
    assert f"stub/{VARIANT}/{mark}/seed-0" in runs


def test_second_sync_writes_nothing(results: Path) -> None:
    """Syncing again, also from a new process's tracker, changes not one byte of the database."""
    Tracker(None, results).sync(_rows(results))
    database = results / "mlflow" / "mlflow.db"
    before = list(sqlite3.connect(database).iterdump())
    outcome = Tracker(None, results).sync(_rows(results))
    assert (outcome.writes, outcome.unchanged, outcome.error) == (0, 7, None)
    assert list(sqlite3.connect(database).iterdump()) == before


def test_changed_trial_replaces_its_run(results: Path) -> None:
    """A failed trial that is done later has one run, the good one; its row's numbers follow."""
    tracker = Tracker(None, results)
    one = spec(results, "dies-once", 0)
    store = Store.open(results)
    store.record_failure(one, "the loss is nan")
    rows = [report_row(one)]
    tracker.sync(rows)
    identity = one.trial_id
    assert _runs(results)[identity].info.status == "FAILED"
    store.clear_failure(one)
    (store.work_folder(one) / "died").touch()
    run_spec(one, train=TRAIN)
    outcome = tracker.sync(rows)
    assert (outcome.created, outcome.updated) == (1, 1)
    runs = _runs(results)
    assert runs[identity].info.status == "FINISHED"
    assert "reason" not in runs[identity].data.tags
    parent = runs[identity.rpartition("/")[0]]
    assert parent.data.metrics["seeds_done"] == 1
    assert "reason" not in parent.data.tags


def test_half_written_run_is_written_afresh(results: Path) -> None:
    """A run without its digest (the driver was killed while writing it) is made again, whole."""
    tracker = Tracker(None, results)
    tracker.sync(_rows(results))
    identity = spec(results).trial_id
    run = _runs(results)[identity]
    tracker._connect().delete_tag(run.info.run_id, "digest")
    assert tracker.sync(_rows(results)).created == 1
    again = _runs(results)[identity]
    assert again.info.run_id != run.info.run_id
    assert again.data.metrics == run.data.metrics


def test_deleted_row_gets_its_trials_back(results: Path) -> None:
    """A row's run deleted by hand is made again, and its trials are children of the new one."""
    tracker = Tracker(None, results)
    tracker.sync(_rows(results))
    mark = spec(results).fingerprint
    tracker._connect().delete_run(_runs(results)[f"stub/ok/{mark}"].info.run_id)
    tracker.sync(_rows(results))
    runs = _runs(results)
    parent = runs[f"stub/ok/{mark}"].info.run_id
    assert runs[f"stub/ok/{mark}/seed-0"].data.tags["mlflow.parentRunId"] == parent


def _dump(results: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what the database says of every run, by name."""
    connection = sqlite3.connect(results / "mlflow" / "mlflow.db")
    runs = dict(connection.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'").fetchall())
    return {
        name: [
            row
            for what in ("metrics WHERE key NOT LIKE 'seeds%'", "params WHERE 1", "tags WHERE key NOT LIKE 'mlflow%'")
            for row in connection.execute(f"SELECT key, value FROM {what} AND run_uuid = ? ORDER BY 1, 2", [run])  # noqa: S608
        ]
        for run, name in runs.items()
        if "seed " in name
    }


def test_command_rebuilds_a_deleted_tracker(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After mlflow.db is deleted, sync_mlflow brings every trial back from the store alone, whatever the tables say."""
    Tracker(None, results).sync(_rows(results))
    before = _dump(results)
    assert len(before) == 4
    moved = results.rename(results.with_name("moved"))  # MLflow never lets go of a database that this process opened
    shutil.rmtree(moved / "mlflow")
    monkeypatch.chdir(moved)
    assert sync_main(["--results-dir", str(moved)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "7 runs written" in said.out
    assert _dump(moved) == before
    assert not (moved / "mlruns").exists()


def test_command_names_the_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No results folder, or an empty one: exit code 2 and one line."""
    assert sync_main(["--results-dir", str(tmp_path / "none")]) == 2
    assert sync_main(["--results-dir", str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: there is no results folder {tmp_path / 'none'}; give --results-dir"
    assert "holds no finished or failed trial yet" in second


def test_long_tag_is_cut_openly(results: Path) -> None:
    """What MLflow would cut without a word is cut by us, and says so."""
    one = spec(results, "wordy")
    store = Store.open(results)
    store.record_failure(one, "x" * 9000)
    content = trial_content(store.work_folder(one))
    assert len(content.tags["reason"]) == LONGEST_TAG
    assert content.tags["reason"].endswith("(cut)")


def test_broken_trial_is_left_out_and_named(results: Path) -> None:
    """A trial whose history is truncated is named, and the others are mirrored."""
    history = Store.open(results).folder(spec(results)) / "history.parquet"
    history.write_bytes(history.read_bytes()[:100])
    outcome = Tracker(None, results).sync(_rows(results))
    assert outcome.error is None
    assert len(outcome.skipped) == 1
    assert "seed-0" in outcome.skipped[0]
    assert spec(results, "ok", 1).trial_id in _runs(results)


def test_command_names_what_it_cannot_read(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record with a setting that this version does not know is no trial of its; who rebuilds all is told."""
    folder = Store.open(results).folder(spec(results, VARIANT))
    record = json.loads((folder / "trial.json").read_text("utf-8"))
    record.pop("digest", None)
    record["recipe"]["network"]["from_last_year"] = 1
    (folder / "trial.json").write_text(json.dumps(record), "utf-8")
    assert sync_main(["--results-dir", str(results)]) == 0
    name = folder.relative_to(results).as_posix()
    assert capsys.readouterr().out.endswith(f"\nleft out: {name}: its record cannot be read\n")
    assert describe(SyncOutcome(skipped=list("abcde")), 1.0).endswith("\nleft out: c\nleft out: and 2 more")


def test_sync_never_raises(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server gone, sync says so in its outcome, quickly, and raises nothing."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    begun = time.monotonic()
    outcome = Tracker(closed_address(), results).sync(_rows(results))
    assert outcome.error is not None
    assert time.monotonic() - begun < 10
