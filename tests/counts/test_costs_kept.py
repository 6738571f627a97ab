"""The report's cost table: counted once, kept, counted anew when something changed, and never the end of a report."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipelines.counts import cache as costs_kept
from pipelines.counts.cache import report_costs
from pipelines.counts.table import CostFile, Count, RowCounts, source_digest
from pipelines.store.folder import Store
from pipelines.store.layout import COSTS_FILE
from tune_configs import load_tables

TABLES = load_tables()
LOST = "mnasnet-search1"
REPORT = [{"table": "imagenet", "row": row, "variant": False} for row in ("dnw-x0.225", LOST, "random-x0.225")] + [
    {"table": "imagenet", "row": "dnw-x0.225@batch_size=8", "variant": True}
]


class StubCommand:
    """Stands in for the process that counts: writes what it is asked for, or fails."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.source = source_digest()
        self.error: Exception | None = None

    def run(self, command: list[str], **options: Any) -> None:
        """See ``subprocess.run``."""
        if self.error is not None:
            raise self.error
        assert options["env"]["CUDA_VISIBLE_DEVICES"] == ""
        names = [word for flag, word in pairwise(command) if flag == "--only"]
        self.asked.append(names)
        rows = [TABLES[table].rows[row] for table, _, row in (name.partition("/") for name in names)]
        count = Count(parameters=1_000_000, macs=40_000_000)
        counts = {row.fingerprint_at("paper"): RowCounts(nothing_dead=count, at_start=count) for row in rows}
        content = {**CostFile(source=self.source, counts=counts).model_dump(mode="json"), "rows": []}
        Path(command[command.index("--json") + 1]).write_text(json.dumps(content), "utf-8")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> StubCommand:
    """Count in no time."""
    stub = StubCommand()
    monkeypatch.setattr(subprocess, "run", stub.run)
    return stub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "results", create=True)


def told(store: Store, report: list[dict[str, Any]] = REPORT) -> tuple[list[str] | None, list[str]]:
    """Return the rows of the cost table and what was said."""
    said: list[str] = []
    lines = report_costs(TABLES, report, store, said.append)
    return (None if lines is None else [line["row"] for line in lines]), said


ROWS = ["dnw-x0.225", LOST, "random-x0.225"]


def test_what_was_counted_is_kept(command: StubCommand, store: Store) -> None:
    """Only rows that were not counted yet are; one that cannot be reproduced needs no count; variants have no line."""
    assert told(store, REPORT[:1]) == (["dnw-x0.225"], [])
    assert told(store) == (ROWS, [])
    assert told(store) == (ROWS, [])
    assert command.asked == [["imagenet/dnw-x0.225"], ["imagenet/random-x0.225"]]
    assert told(store, [REPORT[1]]) == ([LOST], [])
    assert len(command.asked) == 2


def test_other_code_is_counted_anew(command: StubCommand, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source of dnw_core is part of the key, and so is what a damaged file cannot tell."""
    told(store)
    monkeypatch.setattr(costs_kept, "source_digest", lambda: "another")
    command.source = "another"
    assert told(store) == (ROWS, [])
    assert len(command.asked) == 2
    path = store.results_dir / COSTS_FILE
    kept = json.loads(path.read_text("utf-8"))
    for damage in ("", "[]", "{}", json.dumps(kept | {"version": 2}), json.dumps(kept | {"counts": {"a": 1}})):
        path.write_text(damage)
        asked = len(command.asked)
        assert told(store) == (ROWS, [])
        assert len(command.asked) == asked + 1
    assert json.loads(path.read_text("utf-8")) == kept


def test_a_count_that_fails_is_one_line(command: StubCommand, store: Store) -> None:
    """Whatever goes wrong in the other process: no lines, one warning with the reason, nothing kept."""
    said = "Traceback\n  File\nModuleNotFoundError: no torch\n\n"
    failed = subprocess.CalledProcessError(1, ["costs.py"], stderr=said)
    for error, reason in (
        (failed, "ModuleNotFoundError: no torch"),
        (subprocess.TimeoutExpired(["costs.py"], 300), "timed out after 300 seconds"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
    ):
        command.error = error
        rows, said = told(store)
        assert rows is None
        assert len(said) == 1
        assert said[0].startswith("warning: the report has no cost table")
        assert reason in said[0]
    command.error, command.source = None, "edited meanwhile"
    assert told(store)[0] is None
    assert not (store.results_dir / COSTS_FILE).exists()


def test_a_count_of_other_rows_is_not_believed(
    command: StubCommand, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables were edited while the driver ran: the process counts rows under other fingerprints."""

    def other(words: list[str], **options: Any) -> None:
        command.run([*words, "--only", "tiny/static-dnw"], **options)
        path = Path(words[words.index("--json") + 1])
        content = json.loads(path.read_text("utf-8"))
        content["counts"].pop(TABLES["imagenet"].rows["dnw-x0.225"].fingerprint_at("paper"))
        path.write_text(json.dumps(content), "utf-8")

    monkeypatch.setattr(subprocess, "run", other)
    rows, said = told(store)
    assert rows is None
    assert "the code has changed meanwhile" in said[0]


def test_the_source_has_one_digest() -> None:
    """Of this code it is the same each time, and 16 digits long."""
    first = source_digest()
    source_digest.cache_clear()
    assert source_digest() == first
    assert len(first) == 16
