"""MLflow's SQLite file is there as a whole or not at all, whoever is killed or comes second."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pipelines.tracking.server import default_uri, sqlite_path
from support.stubs.specs import TRAIN, report_row, spec

from pipelines.store.folder import Store
from pipelines.tracking.database import _put, in_words, make_database
from pipelines.tracking.tracker import Tracker, check_reachable
from pipelines.trial.run import run_spec

_PREPARE = """
import sys
from pathlib import Path
from pipelines.tracking.tracker import Tracker
Tracker(None, Path(sys.argv[1])).prepare()
"""


def database_of(results: Path) -> Path:
    """Where the tracker's file of a results folder is."""
    path = sqlite_path(default_uri(results))
    assert path is not None
    return path


def make_quickly(monkeypatch: pytest.MonkeyPatch, meanwhile: Any = lambda: None) -> list[str]:
    """Let MLflow make a database of one table; return the addresses that it was given."""
    import mlflow.tracking

    given: list[str] = []

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            given.append(tracking_uri)

        def search_experiments(self, max_results: int) -> None:
            with sqlite3.connect(given[-1].removeprefix("sqlite:///")) as connection:
                connection.execute("CREATE TABLE ours (x)")
            meanwhile()

    monkeypatch.setattr(mlflow.tracking, "MlflowClient", Client)
    return given


def tables(path: Path) -> list[str]:
    """Return the names of a database's tables."""
    with sqlite3.connect(path) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def test_killed_while_the_tables_are_made(tmp_path: Path) -> None:
    """A run that ends at once kills its tracker in the middle of it; the next one finds nothing and makes it whole."""
    temporary, results = tmp_path / "t", tmp_path / "results"
    temporary.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", _PREPARE, str(results)],
        env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(temporary)},
    )
    until = time.monotonic() + 60
    while not any(made.stat().st_size for made in temporary.glob("dnw-mlflow-*/made.db")):
        assert process.poll() is None, "it has ended before"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    database = database_of(results)
    assert not database.exists()

    outcome = Tracker(None, results).sync([])
    assert outcome.error is None
    tracker = Tracker(None, results)
    tracker.prepare()
    assert tracker._client is not None
    assert "alembic_version" in tables(database)
    assert [path.name for path in database.parent.iterdir()] == [database.name]


def test_whoever_comes_second_leaves_the_first_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made by another process meanwhile: that one stays, with what has been written into it."""
    path = tmp_path / "mlflow" / "mlflow.db"

    def first() -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (x)")

    given = make_quickly(monkeypatch, first)
    make_database(path)
    assert tables(path) == ["theirs"]
    make_database(path)
    assert len(given) == 1, "one that is there was made again"
    assert [one.name for one in path.parent.iterdir()] == ["mlflow.db"]


def _table(path: Path, name: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {name} (x)")


def test_two_put_theirs_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked and found nothing: the second one's own file goes, not the first one's."""
    path, made = tmp_path / "mlflow.db", tmp_path / "made"
    _table(made, "ours")
    link = os.link

    def late(source: Path, target: Path) -> None:
        _table(path, "theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    _put(made, path)
    assert tables(path) == ["theirs"]


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


def test_what_a_killed_one_left_is_not_applied_to_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker killed in the middle of a change leaves a journal; its database was moved away, as one is told to."""
    path = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", _LEAVES_A_JOURNAL, str(path)])
    assert path.with_name("mlflow.db-journal").stat().st_size
    path.unlink()

    def fill() -> None:
        with sqlite3.connect(given[-1].removeprefix("sqlite:///")) as connection:
            connection.executemany("INSERT INTO ours VALUES (?)", [("z" * 1000,)] * 200)

    given = make_quickly(monkeypatch, fill)
    make_database(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT x, count(*) FROM ours GROUP BY x").fetchall() == [("z" * 1000, 200)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_link_to_another_disk_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is made where the link points, which need not exist yet."""
    link, path = tmp_path / "mlflow.db", tmp_path / "other disk" / "mlflow.db"
    link.symlink_to(path)
    make_quickly(monkeypatch)
    make_database(link)
    assert link.is_symlink()
    assert tables(path) == ["ours"]


def test_nothing_of_the_making_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps a connection to each database; to the one that was only a means it must not, again and again."""
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            make_database(tmp_path / "mlflow.db")
    opened = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            opened.append(str(descriptor.readlink()))
    assert not [name for name in opened if "made.db" in name]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_an_empty_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """One takes its place, on file systems without links, too; and none is made where it is only looked for."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    path = database_of(tmp_path)
    check_reachable(None, tmp_path)
    assert not path.exists()
    path.touch()
    make_quickly(monkeypatch)
    make_database(path)
    assert tables(path) == ["ours"]


@pytest.mark.parametrize("missing", [(), ("inputs",)])
def test_one_that_is_half_made_or_of_another_mlflow_is_told_with_what_to_do(
    tmp_path: Path, missing: tuple[str, ...]
) -> None:
    """A killed MLflow leaves columns later than its version, and lacks tables; an old one lacks none."""
    path = database_of(tmp_path)
    make_database(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # MLflow's first one
        for name in missing:
            connection.execute(f"DROP TABLE {name}")
    Store.open(tmp_path, create=True)
    trial = spec(tmp_path, "ok", 0)
    run_spec(trial, train=TRAIN)
    outcome = Tracker(None, tmp_path).sync([report_row(trial)])
    assert outcome.error is not None
    assert outcome.error.startswith(f"{path} is half made, damaged, or of another MLflow (")
    assert outcome.error.endswith("moved away, it is made anew from the results")


def test_another_driver_makes_the_experiment_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tracker that several results folders share: theirs is taken, and nothing is called damaged."""
    import mlflow.tracking

    make_database(database_of(tmp_path))
    address = default_uri(tmp_path)
    theirs = mlflow.tracking.MlflowClient(tracking_uri=address).create_experiment("stub")
    look, looks = mlflow.tracking.MlflowClient.get_experiment_by_name, []

    def too_early(client: Any, name: str) -> Any:
        looks.append(name)
        return look(client, name) if len(looks) > 1 else None

    monkeypatch.setattr(mlflow.tracking.MlflowClient, "get_experiment_by_name", too_early)
    tracker = Tracker(address, tmp_path)
    assert tracker._experiment("stub", "title") == theirs
    assert len(looks) == 2
    error = "Experiment(name=tiny) already exists. Error: (sqlite3.IntegrityError) UNIQUE constraint failed"
    assert in_words(error, database_of(tmp_path)) == error
    assert in_words('index "x" already exists', database_of(tmp_path)).endswith("from the results")
