"""Finished trials of a row that was renamed, removed or given another recipe: listed, with what changed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.stubs.command import quick_command
from support.stubs.store import finish, interrupt
from test_planner_plan import TABLES, plan_of

from dnw_core.config.retired import RETIRED_FIELDS
from dnw_core.record import RECORD_FILE, digest_of
from pipelines.commands.reproduce_all import main
from pipelines.plan.leftovers import Leftover, find_leftovers, leftover_entries, leftover_lines, unread_trials
from pipelines.store.folder import Store
from reports import build_report
from tune_configs import Scale

NO_ROW = "3 finished trials belong to no row of these tables: tiny/gone (2), tiny/gone@optimiser.momentum=0.5 (1)"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "results", create=True)


def have(
    store: Store, row: str, *seeds: int, settings: tuple[str, ...] = (), scale: Scale = "smoke", name: str = ""
) -> Path:
    """Finish trials of a row, and give their row another name; return the folder of its recipe."""
    for trial in plan_of(store, row, seeds=seeds, settings=settings, scale=scale).trials:
        finish(store, trial.spec)
    folder = store.folder(trial.spec).parent
    if name:
        (folder.parents[1] / name).mkdir(exist_ok=True)
        folder = folder.rename(folder.parents[1] / name / folder.name)
        for seed in seeds:
            change(folder / f"seed-{seed}", row=name)
    return folder


def change(folder: Path, recipe: dict[str, Any] | None = None, **values: Any) -> None:
    """Change a finished trial's record, and what it says of itself with it."""
    record = json.loads((folder / RECORD_FILE).read_text("utf-8")) | values
    record.pop("digest", None)
    for name, value in (recipe or {}).items():
        section, _, last = name.rpartition(".")
        place = record["recipe"] if not section else record["recipe"].setdefault(section, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    (folder / RECORD_FILE).write_text(json.dumps(record | {"digest": digest_of(record)}), "utf-8")


def lines_of(store: Store, *only: str, scale: Scale = "smoke", whole_tables: bool = False) -> list[str]:
    """Return what is said when these rows are looked at."""
    return leftover_lines(find_leftovers(store, TABLES, plan_of(store, *only, scale=scale), whole_tables=whole_tables))


def test_trials_of_no_row_are_counted(store: Store) -> None:
    """Of a row that is gone, of its variants, of a table that is gone, at any scale; only finished ones."""
    have(store, "tiny/static-random", 0, name="gone@optimiser.momentum=0.5", scale="short")
    have(store, "tiny/static-dnw", 0, 3, name="gone")
    interrupt(store, plan_of(store, "tiny/static-dnw", seeds=(7,)).trials[0].spec, 1)
    assert lines_of(store, "tiny/static-random") == [NO_ROW]
    assert lines_of(store, "tiny/*", scale="paper") == [NO_ROW]
    assert lines_of(store, "imagenet/*") == []  # of a table that nobody looks at
    (store.results_dir / "trials" / "tiny").rename(store.results_dir / "trials" / "last-year")
    assert lines_of(store, "imagenet/*") == [NO_ROW.replace("tiny/", "last-year/")]


def test_a_renamed_folder_is_a_row_that_is_gone(store: Store) -> None:
    """Its record still has the row's name: the report passes it over, so the list must not."""
    folder = have(store, "tiny/static-random", 0).parent
    folder.rename(folder.with_name("my-row-of-last-week"))
    assert lines_of(store, "tiny/*") == [
        "1 finished trial belongs to no row of these tables: tiny/my-row-of-last-week (1)"
    ]


def test_another_recipe_is_told_with_what_changed(store: Store) -> None:
    """Old value and new; not of rows, scales and variants that are as they were."""
    have(store, "tiny/static-random", 0)
    have(store, "tiny/static-dnw", 0, settings=("optimiser.learning_rate=0.3",))
    have(store, "tiny/static-dnw", 0, scale="paper")
    assert lines_of(store, "tiny/*", whole_tables=True) == []
    folder = have(store, "tiny/static-dnw", 0, 1)
    folder = folder.rename(folder.with_name("0123abcd"))
    for seed in (0, 1):
        change(folder / f"seed-{seed}", {"optimiser.learning_rate": 0.05}, fingerprint="0123abcd")
    expected = "tiny/static-dnw: 2 finished trials of another recipe: optimiser.learning_rate was 0.05, is 0.1"
    assert lines_of(store, "tiny/static-dnw") == [expected]
    assert lines_of(store, "tiny/static-random") == []  # nobody asked for that row
    assert lines_of(store, "tiny/static-random", whole_tables=True) == [expected]  # the report shows whole tables
    assert lines_of(store, "tiny/static-dnw", scale="paper") == []
    variant = folder.parents[1] / "static-dnw@optimiser.learning_rate=0.3"
    next(variant.iterdir()).rename(variant / "0123abce")
    assert lines_of(store, "tiny/static-dnw") == [
        expected,
        "tiny/static-dnw@optimiser.learning_rate=0.3: 1 finished trial of another recipe: "
        "none of its settings; the folder was renamed or copied here",
    ]


def test_settings_that_this_version_does_not_know_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other reader takes such a record. A setting that came since stands at its default, and changed nothing."""
    folder = have(store, "tiny/static-dnw", 0)
    folder = folder.rename(folder.with_name("0123abcd"))
    settings = {"network.start": "clamped", "wiring.more": {"of": 1, "it": [2]}, "optimiser.undecayed": None, "old": 7}
    change(folder / "seed-0", settings, fingerprint="0123abcd")
    assert not list(store.records())
    assert unread_trials(store) == [f"trials/tiny/static-dnw/{folder.name}/seed-0"]
    monkeypatch.setitem(RETIRED_FIELDS, "network.start", "the released network clamps more")
    (found,) = find_leftovers(store, TABLES, plan_of(store, "tiny/static-dnw"), whole_tables=False)
    gone = "and is no setting any more"
    assert found.changes == (
        f"network.start was clamped, {gone} (the released network clamps more)",
        f"old was 7, {gone}",
        f"wiring.more.it was [2], {gone}",
        f"wiring.more.of was 1, {gone}",
    )
    assert lines_of(store, "tiny/static-dnw")[0].endswith(f"wiring.more.it was [2], {gone} and 1 more")


@pytest.mark.parametrize("content", ["", "[]", '{"recipe": 3}', '{"recipe": {"network": {"kind": "x\\u001b[31m"}}}'])
def test_no_record_is_too_odd(store: Store, content: str) -> None:
    """What lies in a folder from elsewhere is listed in printable text, and raises nothing."""
    folder = have(store, "tiny/static-dnw", 0)
    folder = folder.rename(folder.with_name("0123abcd"))
    (folder / "seed-0" / RECORD_FILE).write_text(content, "utf-8")
    (line,) = lines_of(store, "tiny/static-dnw")
    assert line.startswith("tiny/static-dnw: 1 finished trial of another recipe: ")
    assert line.isprintable()


def test_a_folder_of_images_that_is_not_here_changes_nothing(store: Store) -> None:
    """Its digest and classes come with the folder: without it they tell nothing."""
    name = "imagenet/mobilenet-v1-x0.25"
    assert TABLES["imagenet"].rows["mobilenet-v1-x0.25"].recipes["short"].data.dataset == "image-folder"
    folder = have(store, name, 0, scale="short")
    folder = folder.rename(folder.with_name("0123abcd"))
    change(
        folder / "seed-0", {"data.content": "f" * 16, "network.classes": 7, "batch_size": 999}, fingerprint="0123abcd"
    )
    (line,) = lines_of(store, name, scale="short")
    assert "batch_size was 999" in line
    assert "content" not in line
    assert "classes" not in line


def test_plan_status_and_report_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, at each of its places; the report lists every trial in leftovers.csv, until there is none."""
    quick_command(monkeypatch)
    monkeypatch.setattr("reports.build_report", build_report)
    monkeypatch.setattr("reports.build.table_pictures", lambda *_: [])
    store = Store.open(tmp_path, create=True)
    have(store, "tiny/static-random", 0)
    have(store, "tiny/static-dnw", 0, 3, name="gone")
    words = ["--table", "tiny", "--results-dir", str(tmp_path)]
    for look in ("--plan", "--status", "--report-only"):
        main([*words, look])
        said = capsys.readouterr().out
        assert ("2 finished trials belong to no row of these tables: tiny/gone (2)" in said) == (
            look != "--report-only"
        )
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "2 belong to no row of the tables" in text
    assert "- `tiny/gone`, recipe `" in text
    csv = (tmp_path / "leftovers.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[:4:3] for line in csv] == [["table", "seed"], ["tiny", "0"], ["tiny", "3"]]
    (tmp_path / "trials" / "tiny" / "gone").rename(tmp_path / "gone")
    main([*words, "--report-only"])
    assert "Finished trials" not in (tmp_path / "results.md").read_text("utf-8")
    assert (tmp_path / "leftovers.csv").read_text("utf-8").splitlines() == csv[:1]


def test_names_from_elsewhere_stay_text_in_the_report(store: Store) -> None:
    """Nothing in a folder's name or a record becomes Markdown, a formula, or bytes that are no UTF-8."""
    odd = Leftover("=t|\udcff", "<b>`x`", "0" * 8, "smoke", (Path("trials/seed-0"),), ("a was |<i>\n# b", "c"))
    other = replace(odd, table="=u", changes=None)
    paths = build_report(store.results_dir, [], scale="smoke", leftovers=leftover_entries([odd, other]))
    text = paths.markdown.read_text("utf-8")
    assert "<i>" not in text
    assert "\n# b" not in text
    assert "'=u" in (store.results_dir / "leftovers.csv").read_text("utf-8")


def test_thousands_of_trials_cost_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is read where all trials are rows' own, and folders are listed by recipe, not by seed."""
    have(store, "tiny/static-dnw", *range(40))
    plan = plan_of(store, "tiny/static-dnw")
    monkeypatch.setattr("pipelines.plan.leftovers.read_json", pytest.fail)
    begun = time.perf_counter()
    assert find_leftovers(store, TABLES, plan, whole_tables=True) == []
    assert time.perf_counter() - begun < 1
