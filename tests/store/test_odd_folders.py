"""A results folder may be called anything (Jenkins: ``job%2Fmain``): addresses made of its path lead nowhere else."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.stubs.specs import TRAIN, report_row, spec

from dnw_core.errors import UserError
from pipelines.commands.report import server_command
from pipelines.commands.reproduce_all import main
from pipelines.commands.sync_mlflow import main as sync_main
from pipelines.store.folder import Store
from pipelines.tracking.addresses import artifact_root, default_uri, resolve_uri, sqlite_path, sqlite_uri
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.tracker import Tracker
from pipelines.trial.run import run_spec

ODD = "job%2Fmain what?/r#1 a&b+c;d%20e ünï"
NAMES = (
    *("plain", "job%2Fmain", "a%20b", "what?", "r#1", "a&b", "a+b", "a;b", "sp ace", "ünï 日本", "50% done", "%", "%%"),
    *("q'uote\"s", "[x]*", "$HOME `x`", "a:b@c", "back\\slash", "new\nline", "\t", "~x", "-x", " ", "..%2F..%2Fx", ODD),
)


@pytest.mark.parametrize("name", NAMES)
def test_addresses_lead_to_the_folder_itself(name: str, tmp_path: Path) -> None:
    """As SQLAlchemy opens the database's, and as MLflow opens the artifacts' and reads the database's from us."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from sqlalchemy import create_engine

    results = tmp_path / name
    uri = default_uri(results)
    assert create_engine(uri).url.database == str(results / "mlflow" / "mlflow.db")
    assert sqlite_path(uri) == results / "mlflow" / "mlflow.db"
    assert resolve_uri(uri, tmp_path) == uri == sqlite_uri(results / "mlflow" / "mlflow.db")
    root = artifact_root(uri, tmp_path)
    assert root == results / "mlflow" / "artifacts"
    assert local_file_uri_to_path((root / "tiny").as_uri()) == str(root / "tiny")
    assert sqlite_path(resolve_uri(f"{uri}?timeout=30", tmp_path)) == results / "mlflow" / "mlflow.db"
    assert resolve_uri(f"{uri}?timeout=30", tmp_path).endswith("?timeout=30")


def test_nothing_lands_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow itself makes the database and takes the artifacts, at the sync, at a second one, and after a look."""
    results = tmp_path / ODD
    monkeypatch.chdir(tmp_path)
    Store.open(results, create=True)
    one = spec(results)
    run_spec(one, train=TRAIN)
    check_reachable(None, results)
    outcome = Tracker(None, results).sync([report_row(one)])
    assert (outcome.error, outcome.skipped, outcome.created) == (None, [], 2)
    kept = sorted(path.name for path in (results / "mlflow").rglob("*") if path.is_file())
    assert kept == ["log.txt", "mlflow.db", "trial.json", "wiring.png"]
    assert sync_main(["--results-dir", str(results)]) == 0
    assert ": 0 runs written" in capsys.readouterr().out
    assert main(["--only", "tiny/static-random", "--results-dir", str(results), "--status"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [ODD.partition("/")[0]]
    assert [path.name for path in results.parent.iterdir()] == [results.name]


def test_the_servers_command_needs_no_folder_of_a_quoted_name() -> None:
    """MLflow's server makes the folders of its address as it stands; beside the file it makes none."""
    assert "--backend-store-uri 'sqlite:////a b/mlflow.db' " in server_command(Path("/a b/mlflow.db"))
    words = shlex.split(server_command(Path(f"/{ODD}/mlflow.db")))
    assert words[:3] == ["cd", f"/{ODD}", "&&"]
    assert "sqlite:///mlflow.db" in words


def test_a_path_that_was_pasted_into_an_address_is_refused(tmp_path: Path) -> None:
    """Where it means a folder that is not there, and the one that was pasted is; with the address that is right."""
    (tmp_path / "job%2Fmain").mkdir()
    with pytest.raises(UserError, match=r"means .*/job/main/m.db, which is not there; write .*/job%252Fmain/m.db for "):
        resolve_uri(f"sqlite:///{tmp_path}/job%2Fmain/m.db", tmp_path)
    with pytest.raises(UserError, match=r"a \? ends the path of an address; write .*/what%3F/m.db for "):
        resolve_uri(f"sqlite:///{tmp_path}/what?/m.db", tmp_path)
    assert sqlite_path(resolve_uri(f"sqlite:///{tmp_path}/job%252Fmain/m.db", tmp_path)) == tmp_path / "job%2Fmain/m.db"


@pytest.mark.parametrize("option", ["--results-dir", "--data-dir", "--cache-dir"])
def test_a_name_that_is_no_text_is_refused(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that is not UTF-8 fits in no address and no report: one line before anything is made."""
    monkeypatch.chdir(tmp_path)
    assert main(["--only", "tiny/static-random", option, "bad\udcff/r"]) == 2
    assert "is not UTF-8; rename the folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
