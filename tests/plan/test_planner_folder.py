"""A folder of images becomes part of the recipe: which one it is, and how many classes it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs.store import finish

from dnw_core.errors import DataBrokenError
from pipelines.plan.folder_data import complete_tables
from pipelines.plan.placement import Placement
from pipelines.plan.planner import Plan, make_plan, plan_rows
from pipelines.plan.reported_rows import all_rows
from pipelines.plan.rows import select_rows
from pipelines.store.folder import Store
from tune_configs import load_tables

TABLES = load_tables()
ROW = "imagenet/dnw-x0.225"


def folder(root: Path, classes: tuple[str, ...] = ("cat", "dog", "owl")) -> Path:
    """Return a folder with one image file a class in train and val; the files' content is of no matter to a plan."""
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            (root / split / name / "1.jpeg").write_bytes(b"not looked at")
    return root


def plan_with(store: Store, data_dir: Path | None, only: str = ROW) -> Plan:
    """Plan rows at scale short on the images in ``data_dir``."""
    rows = select_rows(TABLES, only=[only])
    tables = complete_tables(TABLES, rows, "short", str(data_dir) if data_dir else None, store)
    rows = [tables[row.table].rows[row.id] for row in rows]
    return make_plan(plan_rows(tables, rows, "short", seeds=(0,)), "short", store, Placement(data_dir=str(data_dir)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "results", create=True)


def test_the_folder_says_classes_and_content(store: Store, tmp_path: Path) -> None:
    """The network gets as many classes as the folder has; a file more, and it is another recipe."""
    images = folder(tmp_path / "images")
    first = plan_with(store, images).trials[0].spec
    assert first.recipe.network.classes == 3
    assert first.recipe.data.content
    assert plan_with(store, images).trials[0].spec == first
    (images / "train" / "cat" / "2.jpeg").write_bytes(b"one more")
    assert plan_with(store, images).trials[0].spec.fingerprint != first.fingerprint


def test_two_folders_are_two_recipes(store: Store, tmp_path: Path) -> None:
    """What was trained on one folder is not done for another."""
    ours = folder(tmp_path / "ours")
    finish(store, plan_with(store, ours).trials[0].spec)
    assert plan_with(store, ours).trials[0].state == "done"
    theirs = folder(tmp_path / "theirs", ("bee", "elk", "fox"))
    assert plan_with(store, theirs).trials[0].state == "drifted"


def test_a_report_without_the_folder_finds_the_results(store: Store, tmp_path: Path) -> None:
    """Where the images are not, the newest result of a row says what it was trained on."""
    images = folder(tmp_path / "images")
    done = plan_with(store, images).trials[0].spec
    finish(store, done)
    elsewhere = plan_with(store, tmp_path / "nowhere").trials[0]
    assert (elsewhere.spec.fingerprint, elsewhere.state) == (done.fingerprint, "done")
    tables = complete_tables(TABLES, select_rows(TABLES, only=[ROW]), "short", str(tmp_path / "nowhere"), store)
    assert [row["row"] for row in all_rows(tables, store, "short", lambda row, seeds: "")] == ["dnw-x0.225"]


def test_no_folder_and_no_results_is_data_missing(store: Store, tmp_path: Path) -> None:
    """The recipe stays as the table has it, and the plan says where it looked."""
    trial = plan_with(store, tmp_path / "nowhere").trials[0]
    assert trial.state == "data missing"
    assert "nowhere" in trial.detail
    assert trial.spec.recipe.data.content is None


def test_other_rows_look_for_no_folder(store: Store, tmp_path: Path) -> None:
    """A broken folder stops nobody who trains on something else."""
    broken = folder(tmp_path / "images")
    (broken / "val" / "emu").mkdir()
    rows = select_rows(TABLES, only=["tiny/*"])
    assert complete_tables(TABLES, rows, "short", str(broken), store) == TABLES
    with pytest.raises(DataBrokenError, match="emu"):
        plan_with(store, broken)
