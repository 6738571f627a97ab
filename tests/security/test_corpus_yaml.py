"""Damaged tables: each ends in one clear line, or reads as a table that a plan can be made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus import yaml_files as corpus_yaml
from support.corpus.damage import PARTS, no_hang, part_of

from dnw_core.errors import UserError
from pipelines.commands import listing
from pipelines.commands.reproduce_all import main
from pipelines.plan.placement import Placement
from pipelines.plan.planner import make_plan, plan_rows
from pipelines.store.folder import Store
from tune_configs import SCALES, load_tables

CASES = corpus_yaml.cases()
_PLACEMENT = Placement(device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for tables."""
    (tmp_path / "tables").mkdir()
    return tmp_path / "tables"


def lines_of(folder: Path) -> list[str]:
    """Return what the command lists and plans of a folder of tables."""
    tables = load_tables(folder)
    rows = [row for table in tables.values() for row in table.rows.values()]
    lines = listing.list_lines(tables, rows)
    store = Store.open(folder / "results")
    for scale in SCALES:
        planned = plan_rows(tables, rows, scale)
        plan = make_plan(planned, scale, store, _PLACEMENT, check_data=False)
        lines += listing.plan_lines(plan, 1)
    return lines


def test_the_good_table_is_good(folder: Path) -> None:
    """Without harm there are three rows to be planned at each scale, so that what is refused is the harm."""
    corpus_yaml._writer(lambda good: good, lambda found: found)(folder)
    assert len([line for line in lines_of(folder) if "rows," in line]) == len(SCALES)
    assert len(CASES) >= 100


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_table_is_one_line(tmp_path: Path, part: int) -> None:
    """Never a traceback, never a wait, and no character of it acts on the terminal."""
    for number, (_, write) in enumerate(part_of(CASES, part)):
        folder = tmp_path / str(number) / "tables"
        folder.mkdir(parents=True)
        write(folder)
        with no_hang():
            try:
                told = lines_of(folder)
            except UserError as error:
                told = [str(error)]
                assert told[0].strip()
                assert "secret" not in told[0].replace("secret.yaml", "")
        assert all(character.isprintable() for line in told for character in line)


def test_the_command_ends_with_two(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says such a line on standard error, and nothing else."""
    CASES["deep hyphens"](folder)
    monkeypatch.setattr("pipelines.commands.reproduce_all.load_tables", lambda: load_tables(folder))
    assert main(["--plan"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: small.yaml:1: more than ")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("value", ["1e999", "9" * 6000, "[" * 10_000, "- " * 300_000, '"\\e[1m"', "!!python/name:os.x"])
def test_a_setting_is_refused_in_a_line(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same on the way through ``--set``."""
    monkeypatch.chdir(tmp_path)
    assert main(["--plan", "--only", "tiny/static-dnw", "--set", f"optimiser.learning_rate={value}"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: --set ")
    assert len(said.err.splitlines()) == 1
