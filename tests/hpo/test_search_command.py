"""The search command around its training: options, the file's guard, failures, and what it loads. No Ray is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.stubs.search import write_tables
from support.stubs.store import finish
from tables.test_search_space import FOUND

from pipelines.commands import search
from pipelines.hpo.curve import Curve, write_stopped
from pipelines.hpo.plan import Configuration, find_row, plan_search
from pipelines.plan.placement import Placement
from pipelines.store.folder import Store
from tune_configs import load_tables

NO_TRAINING = "no_such_module:nothing"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command on a table and a results folder of the test's own; the tracker cannot be reached by it."""
    write_tables(tmp_path / "tables")
    return [
        *("--row", "toy/sought", "--tables", str(tmp_path / "tables")),
        *("--results-dir", str(tmp_path / "results"), "--device", "cpu"),
    ]


@pytest.fixture
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave MLflow out."""
    monkeypatch.setattr(search, "_track", lambda *_: None)


def configurations(tmp_path: Path) -> tuple[Store, tuple[Configuration, ...]]:
    """The search's store and configurations."""
    row = find_row(load_tables(tmp_path / "tables"), "toy/sought")
    one = plan_search(row, "smoke", seed=0, trials=None, placement=Placement(), results_dir=tmp_path / "results")
    return Store.open(one.results_dir, create=True), one.configurations


BAD = [
    (["--row", "toy/sough"], "--row: there is no row 'toy/sough'; did you mean 'toy/sought'?"),
    (["--scale", "smoky"], "--scale: there is no scale 'smoky'; did you mean 'smoke'?"),
    (["--trials", "0"], "argument --trials: '0' is not a whole number of 1 or more"),
    (["--seed", "x"], "argument --seed: 'x' is not a whole number from 0 on"),
    (["--trails", "3"], "unknown option --trails; did you mean '--trials'?"),
    (["toy/sought"], "unexpected argument 'toy/sought'; name the row with --row"),
    (["--out", ""], "the path is empty"),
    (["--tables", "/nowhere"], "/nowhere: no table (*.yaml) stands here"),
    (["--tracking-uri", "ftp://x"], "--tracking-uri 'ftp://x' is of an unknown kind"),
]


@pytest.mark.parametrize(("more", "message"), BAD)
def test_mistakes_are_one_line(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line on standard error, before anything is trained."""
    assert search.main([*words, *more], train=NO_TRAINING) == search.USER_ERROR
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1


def test_row_must_be_named_and_have_a_search(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a row, or with one that declares no space, the command says which rows do."""
    assert search.main([]) == search.USER_ERROR
    assert "--row is missing; give for example --row wirings/l1-anneal" in capsys.readouterr().err
    assert search.main(["--row", "tiny/static-dnw", "--plan"]) == search.USER_ERROR
    assert "tiny/static-dnw declares no search: section" in capsys.readouterr().err


def test_all_failed_says_the_first_reason_and_keeps_the_old_file(
    tmp_path: Path, words: list[str], no_tracker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is overwritten, the exit code is 1, and failed configurations are not trained again by themselves."""
    store, all_of_them = configurations(tmp_path)
    for one in all_of_them:
        store.record_failure(one.spec, f"the disk is full ({one.index})")
    old = tmp_path / "tables" / "found" / "toy.sought.yaml"
    old.parent.mkdir()
    old.write_text(yaml.safe_dump({**FOUND, "provenance": {**FOUND["provenance"], "scale": "smoke"}}), "utf-8")
    before = old.read_bytes()
    assert search.main(words, train=NO_TRAINING) == search.NOT_FOUND
    assert old.read_bytes() == before
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("all 6 configurations failed, the first one with: the disk is full (0); ")
    assert said[-1].endswith("toy.sought.yaml stays as it was; to try them again: the same command with --retry")


def test_winner_is_the_best_of_the_finished_ones(
    tmp_path: Path, words: list[str], no_tracker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configuration that was given up cannot win, however good it was; ties go to the earlier one; some may fail."""
    store, all_of_them = configurations(tmp_path)
    for one, accuracy in zip(all_of_them[:3], (0.5, 0.7, 0.7), strict=True):
        finish(store, one.spec, accuracy=accuracy)
    store.record_failure(all_of_them[3].spec, "the loss is nan")
    for one in all_of_them[4:]:
        work = store.work_folder(one.spec)
        (work / "checkpoint.pt").write_bytes(b"checkpoint")
        Curve(0, ()).write(work)
        write_stopped(store.folder(one.spec), 2, 0.9)
    out = tmp_path / "elsewhere" / "mine.yaml"
    assert search.main([*words, "--out", str(out)], train=NO_TRAINING) == search.FOUND
    found = yaml.safe_load(out.read_text("utf-8"))
    second = all_of_them[1].values["optimiser.learning_rate"]
    assert found["recipe"] == {"optimiser": {"learning_rate": second}}
    assert found["provenance"]["configurations"] == {"tried": 6, "finished": 3, "stopped": 2, "failed": 1}
    assert found["provenance"]["winner"]["validation_accuracy"] == 0.7
    assert found["provenance"]["runner_up"]["configuration"] == str(all_of_them[2])
    said = capsys.readouterr().out
    assert "6 configurations: 3 finished, 2 stopped, 1 failed" in said
    assert f"winner: optimiser.learning_rate {second}" in said
    written = out.stat().st_mtime_ns
    assert search.main([*words, "--out", str(out)], train=NO_TRAINING) == search.FOUND
    assert out.stat().st_mtime_ns == written, "the same result was written again"


def test_a_smaller_scale_does_not_overwrite(
    tmp_path: Path, words: list[str], no_tracker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A smoke search refuses a file of a short one before it trains, and takes another with --out."""
    store, all_of_them = configurations(tmp_path)
    for one in all_of_them:
        finish(store, one.spec)
    old = tmp_path / "tables" / "found" / "toy.sought.yaml"
    old.parent.mkdir()
    old.write_text(yaml.safe_dump(FOUND), "utf-8")
    assert search.main(words, train=NO_TRAINING) == search.USER_ERROR
    assert "holds values of a search at short scale, which one at smoke scale must not overwrite" in (
        capsys.readouterr().err
    )
    assert search.main([*words, "--out", str(tmp_path / "other.yaml")], train=NO_TRAINING) == search.FOUND
    notes = tmp_path / "notes.yaml"
    notes.write_text("hello", "utf-8")
    assert search.main([*words, "--out", str(notes)], train=NO_TRAINING) == search.USER_ERROR
    assert notes.read_text("utf-8") == "hello"


def test_plan_writes_nothing_and_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    """`--plan` shows space, configurations and time, makes no folder, and imports neither torch nor ray nor mlflow."""
    code = (
        "import sys; from pipelines.commands.search import main; code = main(sys.argv[1:]); "
        "print([name for name in ('torch', 'ray', 'mlflow', 'pandas', 'pyarrow') if name in sys.modules]); "
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--plan"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert lines[0] == "search toy/sought, scale smoke, seed 0"
    assert any("6 to be trained: at most 54 epochs" in text for text in lines)
    assert sum("optimiser.learning_rate 0.01 " in text for text in lines) == 1
    assert not (tmp_path / "results").exists()
