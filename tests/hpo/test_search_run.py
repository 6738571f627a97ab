"""A whole search with a real Ray, mirrored in MLflow. Training is a stub."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.services.ray_session import use_ray
from support.stubs.search import BEST_RATE, TABLE, TRAIN, planned, trained

from pipelines.commands import search
from pipelines.hpo.halving import Status, assess
from pipelines.hpo.plan import Search
from pipelines.store.folder import Store
from pipelines.tracking import Tracker

pytestmark = pytest.mark.slow


@dataclass
class Ended:
    """A search that has ended."""

    search: Search
    statuses: list[Status]
    words: list[str]
    results: Path


@pytest.fixture(scope="module")
def ended(shared_ray: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A search in two rounds."""
    folder = tmp_path_factory.mktemp("search")
    text = TABLE.replace("trials: 6", "trials: 4").replace("first_rung_fraction: 0.2", "first_rung_fraction: 0.4")
    one, tables, results = planned(folder, text), folder / "tables", folder / "results"
    words = ["--row", "toy/sought", "--tables", str(tables), "--results-dir", str(results), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        use_ray(patch, shared_ray, tmp_path_factory.mktemp("tune"))
        assert search.main(words, train=TRAIN) == search.FOUND
    return Ended(one, assess(one, Store.open(one.results_dir))[0], words, results)


def test_rounds_on_ray(ended: Ended) -> None:
    """Survivors go on from their checkpoints: no epoch is trained twice, and nobody beyond its rung."""
    counts = trained(ended.search.results_dir)
    assert set(counts.values()) == {1}, counts
    assert {
        each.configuration.values["optimiser.learning_rate"]: (each.standing, each.epochs_done)
        for each in ended.statuses
    } == {1e-1: ("finished", 9), 1e-3: ("stopped", 4), 1e-4: ("stopped", 4), 1e-6: ("failed", 0)}
    for each in ended.statuses:
        mark = each.configuration.spec.fingerprint
        assert sorted(epoch for name, epoch in counts if name == mark) == list(range(each.epochs_done))


def test_mirror_is_complete_and_idempotent(ended: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    """In the search's own experiment, each finished or failed trial is a run; the same command changes nothing."""
    database = ended.results / "mlflow" / "mlflow.db"
    before = list(sqlite3.connect(database).iterdump())
    assert search.main(ended.words, train="no_such_module:nothing") == search.FOUND
    assert "warning" not in capsys.readouterr().out
    assert list(sqlite3.connect(database).iterdump()) == before

    client = Tracker(None, ended.results)._connect()
    assert client.get_experiment_by_name("toy") is None, "scores on held-out images beside those on test images"
    experiment = client.get_experiment_by_name("search toy/sought").experiment_id
    runs = {run.data.tags["identity"]: run for run in client.search_runs([experiment])}
    assert len(runs) == 4
    for each in ended.statuses:
        name = each.configuration.spec.trial_id
        assert (name in runs) == (each.standing in ("finished", "failed"))
        if each.standing == "finished":
            row = runs[name.rpartition("/")[0]]
            assert runs[name].data.tags["mlflow.parentRunId"] == row.info.run_id
            assert "64 held-out training images" in row.data.tags["mlflow.note.content"]
            assert runs[name].data.params["optimiser.learning_rate"] == str(BEST_RATE)
