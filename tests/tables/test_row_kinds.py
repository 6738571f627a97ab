"""Which rows ``.ci/run`` trains: one of each kind, so that no code of a row goes untrained."""

from __future__ import annotations

import subprocess
import sys

from support.documents import ROOT
from support.row_kinds import kind_of, one_of_each_kind

from tune_configs import Row, load_tables

TABLES = load_tables()
ROWS = [row for table in TABLES.values() for row in table.rows.values() if row.not_reproducible is None]


def _combination(row: Row) -> tuple[str, str, str, str]:
    recipe = row.recipe_at("paper")
    return recipe.network.kind, recipe.wiring.rule, recipe.schedule.kind, recipe.data.dataset


def test_every_combination_is_among_them() -> None:
    """Network, rule, schedule and data set of each of our rows are those of a row that is trained."""
    chosen = one_of_each_kind(TABLES.values())
    assert {_combination(row) for row in chosen} == {_combination(row) for row in ROWS}
    assert len(chosen) < len(ROWS) / 2


def test_numbers_make_no_kind_and_settings_do() -> None:
    """Rows that differ in density are of one kind; another rule, precision or way of counting slots is another."""
    rows = {f"{row.table}/{row.id}": row for row in ROWS}
    assert kind_of(rows["sparse-cifar/dnw-50"]) == kind_of(rows["sparse-cifar/dnw-5"])
    assert kind_of(rows["wirings/no-update"]) != kind_of(rows["wirings/no-update-corrected"])
    assert kind_of(rows["tiny/continuous-dnw"]) != kind_of(rows["tiny/continuous-dnw-corrected"])


def test_the_command_line_of_ci_names_them() -> None:
    """What ``.ci/run`` passes on is one ``--only`` a row, and each names one row."""
    printed = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "row_kinds.py")], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(printed[::2]) == {"--only"}
    assert printed[1::2] == [f"{row.table}/{row.id}" for row in one_of_each_kind(TABLES.values())]
