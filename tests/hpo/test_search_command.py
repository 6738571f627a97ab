"""The search command: rounds, killed and resumed, the result file, mistakes, what it loads. No Ray is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.stubs.search import BEST_RATE, TABLE, Killed, ScheduleHere, accuracy, planned, reach, trained, write_tables
from support.stubs.store import finish
from tables.test_search_space import FOUND

import pipelines.hpo.run
from pipelines.commands import search
from pipelines.commands.shell import INTERRUPTED, USER_ERROR
from pipelines.hpo.plan import Configuration
from pipelines.store.folder import Store
from tune_configs import load_tables

NO_TRAINING = "no_such_module:nothing"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command on a table and a results folder of the test's own."""
    write_tables(tmp_path / "tables")
    return [
        *("--row", "toy/sought", "--tables", str(tmp_path / "tables")),
        *("--results-dir", str(tmp_path / "results"), "--device", "cpu"),
    ]


@pytest.fixture
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave MLflow out."""
    monkeypatch.setattr(search, "_track", lambda *_: None)


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch, no_tracker: None) -> ScheduleHere:
    """The rounds' scheduling, in this process."""
    here = ScheduleHere()
    monkeypatch.setattr(pipelines.hpo.run, "run_schedule", here)
    return here


def laid_out(tmp_path: Path) -> tuple[Store, tuple[Configuration, ...]]:
    """The search's store and configurations."""
    one = planned(tmp_path)
    return Store.open(one.results_dir, create=True), one.configurations


def found(tmp_path: Path) -> dict[str, object]:
    """The result file."""
    values: dict[str, object] = yaml.safe_load((tmp_path / "tables" / "found" / "toy.sought.yaml").read_text("utf-8"))
    return values


def test_rounds_find_the_best(tmp_path: Path, words: list[str], schedule: ScheduleHere) -> None:
    """Poor configurations stop at a rung; the best one is trained to the end and stands in the file with its origin."""
    assert search.main(words) == search.FOUND
    first, *later = schedule.rounds
    assert sorted(first) == [(10.0**power, 2) for power in range(-6, 0)]
    assert later == [[(1e-1, 6), (1e-2, 6)], [(1e-1, None)]]
    values = found(tmp_path)
    assert values["recipe"] == {"optimiser": {"learning_rate": BEST_RATE}}
    provenance = values["provenance"]
    assert isinstance(provenance, dict)
    assert provenance["winner"]["validation_accuracy"] == pytest.approx(accuracy(BEST_RATE, 8))
    assert (provenance["scale"], provenance["seed"], provenance["epochs"]) == ("smoke", 0, 9)
    assert (provenance["training_images"], provenance["validation_images"]) == (256, 64)
    assert provenance["configurations"] == {"tried": 6, "finished": 1, "stopped": 4, "failed": 1}
    assert provenance["command"].startswith("python pipelines/search.py --row toy/sought")
    assert {"date", "commit", "dirty", "packages", "data_checksum", "space"} <= set(provenance)

    write_tables(tmp_path / "tables", TABLE.replace("Sought\n", "Sought\n    include: found/toy.sought.yaml\n", 1))
    corrected = load_tables(tmp_path / "tables")["toy"].rows["sought-corrected"]
    assert corrected.recipe_at("paper").optimiser.learning_rate == BEST_RATE
    assert corrected.notes[-1].startswith("Values from a search at smoke scale (smoke: they mean nothing): optimiser.l")


def test_killed_anywhere_and_resumed_trains_nothing_twice(
    tmp_path: Path, words: list[str], schedule: ScheduleHere, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after the 1st, 10th, 13th, 18th and last epoch of 21, once interrupted: what comes out is the same."""
    own = planned(tmp_path).results_dir
    for schedule.killed_after in (1, 10, 13, 18):
        with pytest.raises(Killed):
            search.main(words)
        assert set(trained(own).values()) == {1}
    schedule.killed_after, schedule.interrupted_after = None, 20
    capsys.readouterr()
    assert search.main(words) == INTERRUPTED
    assert "To resume: python pipelines/search.py --row toy/sought" in capsys.readouterr().err
    schedule.interrupted_after, schedule.killed_after = None, 21
    with pytest.raises(Killed):
        search.main(words)
    assert search.main(words) == search.FOUND
    counts = trained(own)
    assert set(counts.values()) == {1}
    assert sorted(sum(name == mark for name, _ in counts) for mark in {name for name, _ in counts}) == [2, 2, 2, 6, 9]
    assert found(tmp_path)["recipe"] == {"optimiser": {"learning_rate": BEST_RATE}}

    rounds = len(schedule.rounds)
    assert search.main(words, train=NO_TRAINING) == search.FOUND
    assert len(schedule.rounds) == rounds, "an ended search was scheduled"
    said = capsys.readouterr().out
    assert "6 configurations: 1 finished, 4 stopped, 1 failed; 21 epochs" in said
    assert "winner: optimiser.learning_rate 0.1" in said
    assert "the values it finds mean nothing" in said


def test_what_a_round_leaves_out_is_not_asked_for_again(
    words: list[str], schedule: ScheduleHere, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where trials neither end nor fail (a machine was lost), the command ends with 1 and does not go on for ever."""
    schedule_all = ScheduleHere.__call__
    monkeypatch.setattr(ScheduleHere, "__call__", lambda self, specs, **more: schedule_all(self, specs[:-1], **more))
    assert search.main(words) == search.NOT_FOUND
    assert len(schedule.rounds) == 1
    assert "not all have ended" in capsys.readouterr().out


def test_damage_and_retry(tmp_path: Path, words: list[str], schedule: ScheduleHere) -> None:
    """A damaged result moves aside and is trained again; ``--retry`` trains failed ones once more."""
    assert search.main(words) == search.FOUND
    one = planned(tmp_path)
    winner = next(each for each in one.configurations if each.values["optimiser.learning_rate"] == BEST_RATE)
    (Store.open(one.results_dir).folder(winner.spec) / "history.parquet").write_bytes(b"damaged")
    schedule.rounds.clear()
    assert search.main([*words, "--retry"]) == search.FOUND
    assert schedule.rounds == [[(1e-6, 2)], [(1e-1, None)]]
    assert list((one.results_dir / "set-aside").rglob("history.parquet"))


BAD = [
    (["--row", "toy/sough"], "--row: there is no row 'toy/sough'; did you mean 'toy/sought'?"),
    (["--scale", "smoky"], "--scale: there is no scale 'smoky'; did you mean 'smoke'?"),
    (["--trials", "0"], "argument --trials: '0' is not a whole number of 1 or more"),
    (["--seed", "x"], "argument --seed: 'x' is not a whole number of 0 or more"),
    (["--trails", "3"], "unknown option --trails; did you mean '--trials'?"),
    (["toy/sought"], "unexpected argument 'toy/sought'; name the row with --row"),
    (["--out", ""], "the path is empty"),
    (["--tables", "/nowhere"], "/nowhere: there is no table (*.yaml) here"),
    (["--tracking-uri", "ftp://x"], "--tracking-uri 'ftp://x' is of an unknown kind"),
]


@pytest.mark.parametrize(("more", "message"), BAD)
def test_mistakes_are_one_line(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line on standard error, before anything is trained."""
    assert search.main([*words, *more], train=NO_TRAINING) == USER_ERROR
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1


def test_row_must_be_named_and_have_a_search(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a row, or with one that declares no space, the command says which rows do."""
    assert search.main([]) == USER_ERROR
    assert "--row is missing; give for example --row wirings/l1-anneal" in capsys.readouterr().err
    assert search.main(["--row", "tiny/static-dnw", "--plan"]) == USER_ERROR
    assert "tiny/static-dnw declares no search: section" in capsys.readouterr().err


def test_all_failed_says_the_first_reason_and_keeps_the_old_file(
    tmp_path: Path, words: list[str], no_tracker: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is overwritten, the exit code is 1, and failed configurations are not trained again by themselves."""
    store, all_of_them = laid_out(tmp_path)
    for each in all_of_them:
        store.record_failure(each.spec, f"the disk is full ({each.index})")
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
    store, all_of_them = laid_out(tmp_path)
    for each, score in zip(all_of_them[:3], (0.5, 0.7, 0.7), strict=True):
        finish(store, each.spec, accuracy=score)
    store.record_failure(all_of_them[3].spec, "the loss is nan")
    for each in all_of_them[4:]:
        reach(store, each.spec, 2, 0.9)
    out = tmp_path / "elsewhere" / "mine.yaml"
    assert search.main([*words, "--out", str(out)], train=NO_TRAINING) == search.FOUND
    values = yaml.safe_load(out.read_text("utf-8"))
    second = all_of_them[1].values["optimiser.learning_rate"]
    assert values["recipe"] == {"optimiser": {"learning_rate": second}}
    assert values["provenance"]["configurations"] == {"tried": 6, "finished": 3, "stopped": 2, "failed": 1}
    assert values["provenance"]["winner"]["validation_accuracy"] == 0.7
    assert values["provenance"]["runner_up"]["configuration"] == str(all_of_them[2])
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
    store, all_of_them = laid_out(tmp_path)
    for each in all_of_them:
        finish(store, each.spec)
    old = tmp_path / "tables" / "found" / "toy.sought.yaml"
    old.parent.mkdir()
    old.write_text(yaml.safe_dump(FOUND), "utf-8")
    assert search.main(words, train=NO_TRAINING) == USER_ERROR
    assert "holds values of a search at short scale, which one at smoke scale must not overwrite" in (
        capsys.readouterr().err
    )
    assert search.main([*words, "--out", str(tmp_path / "other.yaml")], train=NO_TRAINING) == search.FOUND
    notes = tmp_path / "notes.yaml"
    notes.write_text("hello", "utf-8")
    assert search.main([*words, "--out", str(notes)], train=NO_TRAINING) == USER_ERROR
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
    assert any("6 to be trained: at most 23 epochs" in text for text in lines)
    assert sum("optimiser.learning_rate 0.01 " in text for text in lines) == 1
    assert not (tmp_path / "results").exists()
