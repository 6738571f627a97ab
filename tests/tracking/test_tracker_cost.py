"""What a trial costs the tracker, counted in requests and files read, never in seconds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.stubs.specs import TRAIN, report_row, spec

from pipelines.store.folder import Store
from pipelines.tracking import tracker as tracker_module
from pipelines.tracking.content import Content, Point
from pipelines.tracking.runs import DIGEST, RowRuns, Written
from pipelines.tracking.tracker import SyncOutcome, Tracker
from pipelines.trial.run import run_spec


class _Page(list[Any]):
    """Runs as MLflow's search returns them, a single page."""

    token = None


class _Client:
    """Stands for MLflow: keeps runs and their tags, counts requests, and refuses what MLflow would refuse."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.runs: dict[str, Any] = {}
        self.logged: list[tuple[str, int, int, list[str]]] = []

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active")

    def search_runs(self, *arguments: Any, **options: Any) -> _Page:
        self.requests["search"] += 1
        return _Page(self.runs.values())

    def create_run(self, experiment: str, *, start_time: Any, tags: dict[str, str], run_name: str) -> Any:
        self.requests["create"] += 1
        info = SimpleNamespace(run_id=f"run-{len(self.runs)}", status="RUNNING")
        self.runs[info.run_id] = SimpleNamespace(info=info, data=SimpleNamespace(tags=dict(tags), metrics={}))
        return self.runs[info.run_id]

    def log_batch(self, run: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        assert len(params) <= 100
        assert len(tags) <= 100
        assert len(metrics) + len(params) + len(tags) <= 1000
        self.requests["batch"] += 1
        self.logged.append((run, len(metrics), len(params), [tag.key for tag in tags]))
        self.runs[run].data.tags |= {tag.key: tag.value for tag in tags}

    def __getattr__(self, name: str) -> Any:
        def request(*arguments: Any, **options: Any) -> None:
            self.requests[name] += 1

        return request


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a results folder with four finished trials of one row."""
    Store.open(tmp_path, create=True)
    for seed in range(4):
        run_spec(spec(tmp_path, "ok", seed), train=TRAIN)
    return tmp_path


def _synced(results: Path, client: _Client) -> SyncOutcome:
    tracker = Tracker(None, results)
    tracker._client = client
    return tracker.sync([report_row(spec(results, "ok"), (0, 1, 2, 3))])


def test_a_trial_is_written_with_few_requests(results: Path) -> None:
    """One search a row; for a row and for a trial one request to make it, one to end it, one with all its values."""
    client = _Client()
    assert _synced(results, client).created == 1 + 4
    assert client.requests["search"] == 1
    assert client.requests["create"] == client.requests["batch"] == client.requests["set_terminated"] == 1 + 4
    assert client.requests["log_artifact"] == 3 * 4
    assert sum(client.requests.values()) == 1 + 3 * 5 + 3 * 4


def test_what_stands_is_not_read_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of trials that are mirrored already nothing but the record is read, and nothing is written."""
    client = _Client()
    _synced(results, client)
    client.requests.clear()

    def refuse(folder: Path) -> Content:
        raise AssertionError(f"{folder} was read")

    monkeypatch.setattr(tracker_module, "trial_content", refuse)
    outcome = _synced(results, client)
    assert (outcome.error, outcome.unchanged) == (None, 1 + 4)
    assert dict(client.requests) == {"search": 1}


@pytest.mark.parametrize(("metrics", "params", "requests"), [(0, 0, 1), (800, 100, 1), (801, 1, 2), (5, 250, 3)])
def test_long_runs_are_split_and_the_digest_comes_last(metrics: int, params: int, requests: int) -> None:
    """No request holds more than MLflow takes, nothing is lost, and only the last one has the digest."""
    client = _Client()
    runs = RowRuns(client, "1", "t/r/f", Written())
    content = Content(
        identity="t/r/f/seed-0",
        name="a trial",
        digest="0123",
        status="FINISHED",
        tags={"table": "t"},
        params={str(number): "x" for number in range(params)},
        metrics=tuple(Point(str(number), 1.0, 0) for number in range(metrics)),
    )
    runs.write_trial(content, "run-of-the-row")
    assert len(client.logged) == requests
    assert sum(line[1] for line in client.logged) == metrics
    assert sum(line[2] for line in client.logged) == params
    assert [DIGEST in line[3] for line in client.logged] == [False] * (requests - 1) + [True]
