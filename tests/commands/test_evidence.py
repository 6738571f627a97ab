"""The command that keeps finished trials in the repository and makes the pages on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.corpus.trials import good_trial, rewrite

from pipelines.commands.evidence import FIGURES, PAGE, README, main
from pipelines.plan.placement import Placement
from pipelines.plan.planner import make_plan, plan_rows
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from tune_configs import load_tables

MARKS = "# A readme\n\n<!-- made by pipelines/evidence.py: -->\n<!-- end -->\n\nThe rest.\n"


def trials(results: Path, row: str, scale: str = "paper", seeds: tuple[int, ...] = (0, 1)) -> list[TrialSpec]:
    """Finished trials of a row of the tables."""
    tables = load_tables()
    table, name = row.split("/")
    planned = plan_rows(tables, [tables[table].rows[name]], scale, seeds=seeds)  # type: ignore[arg-type]
    store = Store.open(results, create=True)
    plan = make_plan(planned, scale, store, Placement(device="cpu"), check_data=False)  # type: ignore[arg-type]
    specs = [trial.spec for trial in plan.trials]
    for spec in specs:
        good_trial(store.folder(spec), spec)
    return specs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository without evidence, and beside it the results of two trials."""
    (tmp_path / "root" / "docs").mkdir(parents=True)
    (tmp_path / "root" / README).write_text(MARKS)
    trials(tmp_path / "results", "tiny/static-dnw")
    return tmp_path / "root"


def run(root: Path, *words: str) -> int:
    """The command, on this repository."""
    return main(["--root", str(root), *words])


def test_pages_are_made_from_the_trials(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every seed, the verdict, the curves; made again they are the same; a page changed by hand is stale."""
    assert run(root, "--add", str(tmp_path / "results")) == 0
    assert "2 trials added to evidence, 0 were there" in capsys.readouterr().out
    page, readme = (root / PAGE).read_text(), (root / README).read_text()
    assert page.startswith("# Evidence\n")
    for line in ("| `tiny/static-dnw` | 0 |", "| `tiny/static-dnw` | 1 |", "--scale paper --only tiny/static-dnw"):
        assert line in page
    assert "](images/evidence/tiny-learning-curves.png)" in page
    assert (root / FIGURES / "tiny-learning-curves.png").stat().st_size > 10_000
    assert "`tiny/static-dnw` |" in readme
    assert readme.startswith("# A readme\n")
    assert readme.endswith("<!-- end -->\n\nThe rest.\n")
    assert not list((root / "evidence").rglob("checkpoint.pt"))
    assert sorted(path.name for path in (root / "evidence").iterdir()) == ["store.json", "trials"]
    assert run(root, "--check") == 0
    assert run(root) == 0
    assert ((root / PAGE).read_text(), (root / README).read_text()) == (page, readme)
    (root / FIGURES / "tiny-learning-curves.png").rename(tmp_path / "curves.png")
    assert run(root, "--check") == 1
    assert f"{FIGURES}/tiny-learning-curves.png" in capsys.readouterr().err
    (tmp_path / "curves.png").rename(root / FIGURES / "tiny-learning-curves.png")
    for harm in (lambda: (root / PAGE).write_text(page.replace("static", "dynamic")), (root / PAGE).unlink):
        harm()
        assert run(root, "--check") == 1
    assert f"error: not made from evidence: {PAGE}; run pipelines/evidence.py" in capsys.readouterr().err


def test_what_is_no_evidence_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trials of another scale, of no row, damaged ones; an empty folder; a readme without the place."""

    def said(*words: str) -> str:
        capsys.readouterr()
        assert run(root, *words) == 2
        return capsys.readouterr().err

    assert "is not a results folder" in said()
    Store.open(root / "evidence", create=True)
    assert run(root) == 0
    assert (root / PAGE).read_text().endswith("No trial has been finished yet.\n")
    trials(tmp_path / "smoke", "tiny/static-dnw", "smoke")
    assert "holds no finished trial of scale paper" in said("--add", str(tmp_path / "smoke"))
    assert "leave out --add or --check" in said("--check", "--add", str(tmp_path / "results"))
    trials(tmp_path / "results", "tiny/static-dnw", "smoke")  # beside those of scale paper: passed over
    assert run(root, "--add", str(tmp_path / "results")) == 0
    assert len(list((root / "evidence").rglob("trial.json"))) == 2
    (root / README).write_text("# A readme\n")
    assert "has no place for the table" in said()
    (root / README).write_text(MARKS)
    folder = next((root / "evidence" / "trials" / "tiny").glob("*/*"))
    shutil.copytree(folder, folder.parent / "0badf00d")
    assert "holds another trial's record" in said()
    shutil.rmtree(folder.parent / "0badf00d")
    (gone,) = trials(root / "evidence", "tiny/static-dnw", "short", seeds=(7,))
    assert f"evidence holds tiny/static-dnw {gone.fingerprint} seed 7, a recipe that no row has any more" in said()
    shutil.rmtree(folder.parent / gone.fingerprint)
    rewrite(folder / "seed-0", lambda values: values["provenance"].update(hostname="elsewhere"))
    assert "seed-0/trial.json: altered" in said("--check")
