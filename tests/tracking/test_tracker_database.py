"""MLflow's SQLite file is there as a whole or not at all, whichever process is killed or comes second."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import TRAIN, report_row, spec

from pipelines.store.folder import Store
from pipelines.tracking import database as module
from pipelines.tracking.addresses import default_uri, sqlite_path
from pipelines.tracking.database import explain, make_database
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.tracker import Tracker
from pipelines.trial.run import run_spec


def database_of(results: Path) -> Path:
    """Where the tracker's file of a results folder is."""
    path = sqlite_path(default_uri(results))
    assert path is not None
    return path


def table(path: Path, name: str, rows: int = 0) -> None:
    """Make a database with one table."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {name} (x)")
        connection.executemany(f"INSERT INTO {name} VALUES (?)", [("z" * 1000,)] * rows)  # noqa: S608


def tables(path: Path) -> list[str]:
    """Return the names of a database's tables."""
    with sqlite3.connect(path) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


@pytest.fixture
def quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets a database be made of one table, ``ours``; something may happen meanwhile."""
    made = tmp_path_factory.mktemp("made") / "made.db"
    table(made, "ours", rows=200)

    def let(meanwhile: Callable[[], None] = lambda: None) -> None:
        monkeypatch.setattr(module, "empty_database", lambda: (meanwhile(), made.read_bytes())[1])

    let()
    return let


def test_killed_while_the_tables_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes its tables elsewhere; a tracker killed meanwhile leaves nothing, and the next one makes it whole."""
    import mlflow.tracking

    given: list[str] = []

    class Killed:
        def __init__(self, tracking_uri: str) -> None:
            given.append(tracking_uri)

        def search_experiments(self, max_results: int) -> None:
            raise KeyboardInterrupt

    path = database_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(mlflow.tracking, "MlflowClient", Killed)
        with pytest.raises(KeyboardInterrupt):
            module.empty_database.__wrapped__()
        patch.setattr(module, "empty_database", module.empty_database.__wrapped__)
        with pytest.raises(KeyboardInterrupt):
            make_database(path)
    assert len(given) == 2
    assert not [uri for uri in given if str(tmp_path) in uri]
    assert not path.exists()
    Tracker(None, tmp_path).prepare()
    assert "alembic_version" in tables(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_whoever_comes_second_leaves_the_first_ones(tmp_path: Path, quick: Callable[..., None]) -> None:
    """Made by another process meanwhile, with a transaction open: that one stays, with what was written into it."""
    path = tmp_path / "mlflow.db"
    quick(lambda: (table(path, "theirs"), path.with_name("mlflow.db-journal").touch()))
    for _ in range(2):
        make_database(path)
        assert {one.name for one in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db-journal"}
    assert tables(path) == ["theirs"]


def test_two_put_theirs_at_the_same_moment(
    tmp_path: Path, quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked and found nothing: the second one's own file goes, not the first one's."""
    path, link = tmp_path / "mlflow.db", os.link

    def late(source: Path, target: Path) -> None:
        table(path, "theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    make_database(path)
    assert tables(path) == ["theirs"]
    assert list(tmp_path.iterdir()) == [path]


_LEAVES_A_JOURNAL = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE killed (x)")
connection.executemany("INSERT INTO killed VALUES (?)", [("x" * 1000,)] * 200)
connection.commit()
connection.execute("PRAGMA cache_size = 5")
connection.execute("UPDATE killed SET x = 'y' || x")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_one_left_is_not_applied_to_the_new_one(tmp_path: Path, quick: Callable[..., None]) -> None:
    """A tracker killed in the middle of a change leaves a journal; its database was moved away, as one is told to."""
    path = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", _LEAVES_A_JOURNAL, str(path)])
    assert path.with_name("mlflow.db-journal").stat().st_size
    path.unlink()
    make_database(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT x, count(*) FROM ours GROUP BY x").fetchall() == [("z" * 1000, 200)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_link_to_another_disk_stays_one(tmp_path: Path, quick: Callable[..., None]) -> None:
    """The database is made where the link points, which need not exist yet."""
    link, path = tmp_path / "mlflow.db", tmp_path / "other disk" / "mlflow.db"
    link.symlink_to(path)
    make_database(link)
    assert link.is_symlink()
    assert tables(path) == ["ours"]


@pytest.mark.parametrize("links", [True, False])
def test_an_empty_file_is_none(
    tmp_path: Path, quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """One takes its place, on file systems without links, too; and none is made where it is only looked for."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    path = database_of(tmp_path)
    check_reachable(None, tmp_path)
    assert not path.exists()
    path.touch()
    make_database(path)
    assert tables(path) == ["ours"]


@pytest.mark.parametrize("missing", [(), ("inputs",)])
def test_one_that_is_half_made_or_of_another_mlflow_is_told_with_what_to_do(
    tmp_path: Path, empty_database: bytes, missing: tuple[str, ...]
) -> None:
    """A killed MLflow leaves columns later than its version, and lacks tables; an old one lacks none."""
    path = database_of(tmp_path)
    path.parent.mkdir()
    path.write_bytes(empty_database)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # MLflow's first one
        for name in missing:
            connection.execute(f"DROP TABLE {name}")
    Store.open(tmp_path, create=True)
    trial = spec(tmp_path, "ok", 0)
    run_spec(trial, train=TRAIN)
    outcome = Tracker(None, tmp_path).sync([report_row(trial)])
    assert outcome.error is not None
    assert outcome.error.startswith(f"{path} is incomplete, damaged, or of another version of MLflow (")
    assert outcome.error.endswith("move it away, and it is made again from the results")


def test_another_driver_makes_the_experiment_first(
    tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tracker that several results folders share: theirs is taken, and nothing is called damaged."""
    import mlflow.tracking

    database_of(tmp_path).parent.mkdir()
    database_of(tmp_path).write_bytes(empty_database)
    address = default_uri(tmp_path)
    theirs = mlflow.tracking.MlflowClient(tracking_uri=address).create_experiment("stub")
    look, looks = mlflow.tracking.MlflowClient.get_experiment_by_name, []

    def too_early(client: Any, name: str) -> Any:
        looks.append(name)
        return look(client, name) if len(looks) > 1 else None

    monkeypatch.setattr(mlflow.tracking.MlflowClient, "get_experiment_by_name", too_early)
    assert Tracker(address, tmp_path)._experiment("stub", "title") == theirs
    assert len(looks) == 2
    error = "Experiment(name=tiny) already exists. Error: (sqlite3.IntegrityError) UNIQUE constraint failed"
    assert explain(error, database_of(tmp_path)) == error
    assert explain('index "x" already exists', database_of(tmp_path)).endswith("from the results")
