"""What a results folder or a table brings along executes nothing, and leads the report nowhere outside its folder."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pyarrow import parquet
from support.corpus.command import Command, draw_nothing, lay_out, quicken, spec_of
from support.corpus.trials import keep_hash, rewrite
from support.stubs.specs import report_row

from dnw_core.errors import CheckpointRefusedError, UserError
from dnw_core.record import CHECKPOINT_FILE, HISTORY_FILE, WIRING_FILE
from dnw_core.training.checkpoints.checkpoint import read_checkpoint
from pipelines.plan.rows import parse_overrides
from pipelines.store.folder import Store
from reports import build_report, read_history, read_trials
from reports.reading.wiring_file import read_counts, read_wiring
from tune_configs import load_tables
from tune_configs.include import parse_found


class Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder that is there once something was executed."""
    return tmp_path / "executed"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with two finished trials."""
    lay_out(tmp_path / "results", (0, 1))
    return tmp_path / "results"


@pytest.fixture
def command(results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command over it."""
    command = Command(results, capsys)
    command.seeds = (0, 1)
    quicken(monkeypatch, command)
    return command


@pytest.fixture
def drawing(results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command over it, which draws figures of what it reads."""
    command = Command(results, capsys)
    command.seeds = (0, 1)
    quicken(monkeypatch, command, figures=True)
    return command


def folder_of(results: Path, seed: int = 1) -> Path:
    """The folder of a finished trial."""
    return Store.open(results).folder(spec_of(results, seed))


def rows(results: Path) -> list[dict[str, object]]:
    """The row as the report is given it."""
    return [report_row(spec_of(results, 0))]


def outside(folder: Path) -> dict[str, str]:
    """Everything beside the results folder, with its content."""
    found = [path for path in sorted(folder.rglob("*")) if (folder / "results") not in (path, *path.parents)]
    return {str(path): path.read_text() if path.is_file() else "" for path in found}


def test_no_checkpoint_executes(canary: Path, results: Path, command: Command) -> None:
    """Plain, inside torch's archive, and in a committed trial whose record vouches for it."""
    path = folder_of(results) / CHECKPOINT_FILE
    for write in (lambda: path.write_bytes(pickle.dumps(Bomb(canary))), lambda: torch.save({"x": Bomb(canary)}, path)):
        write()
        with pytest.raises(CheckpointRefusedError, match="refused"):
            read_checkpoint(path)
        keep_hash(folder_of(results), CHECKPOINT_FILE)
        for look in ("--status", "--plan", "--report-only"):
            assert command(look).code == 0
        assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the bomb is real"


def test_no_wiring_executes(canary: Path, results: Path, drawing: Command) -> None:
    """Arrays of objects are pickles: none is read."""
    path = folder_of(results) / WIRING_FILE
    with np.load(path) as arrays:
        values = dict(arrays)
    np.savez(path, **values | {"graph.live": np.array([Bomb(canary)], dtype=object)})
    keep_hash(folder_of(results), WIRING_FILE)
    for read in (read_wiring, read_counts):
        try:
            read(path)
        except ValueError as error:
            assert str(error).startswith("wiring.npz: ")  # noqa: PT017 - counting need not open it
    assert drawing("--report-only").code == 0
    assert not canary.exists()
    with np.load(path, allow_pickle=True) as arrays:
        arrays["graph.live"]
    assert canary.exists(), "the bomb is real"


@pytest.mark.parametrize("where", ["pandas", "ARROW:schema", "extension", "column"])
def test_no_parquet_metadata_executes(where: str, canary: Path, results: Path, drawing: Command) -> None:
    """A pickle as the pandas metadata, as Arrow's schema, as an extension type's own data, or in a column's."""
    path = folder_of(results) / HISTORY_FILE
    table = parquet.read_table(path)
    bomb = pickle.dumps(Bomb(canary))
    field = table.schema.field("test_accuracy")
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": bomb}
    if where == "extension":
        place = table.schema.get_field_index("test_accuracy")
        table = table.cast(table.schema.set(place, field.with_metadata(extension)))
    elif where == "column":
        place = table.schema.get_field_index("test_accuracy")
        table = table.cast(table.schema.set(place, field.with_metadata({b"pickle": bomb})))
    else:
        table = table.replace_schema_metadata({where.encode(): bomb})
    parquet.write_table(table, path, store_schema=where != "ARROW:schema")
    keep_hash(folder_of(results), HISTORY_FILE)
    trials = read_trials(results, rows(results))
    assert set(read_history(results, trials)["seed"]) >= {0}
    assert drawing("--report-only").code == 0
    assert not canary.exists()
    pickle.loads(bomb)
    assert canary.exists(), "the bomb is real"


def test_no_yaml_executes(canary: Path, tmp_path: Path) -> None:
    """In a table, in an included file, and after ``--set``."""
    bomb = f"!!python/object/apply:os.mkdir ['{canary}']"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "x.yaml").write_text(f"id: x\ntitle: {bomb}\n")
    with pytest.raises(UserError, match=r"x\.yaml:2: the tag"):
        load_tables(tmp_path / "tables")
    with pytest.raises(UserError, match=r"found\.yaml:1: the tag"):
        parse_found(f"recipe: {bomb}\n", "found.yaml")
    with pytest.raises(UserError, match="--set epochs: the tag"):
        parse_overrides([f"epochs={bomb}"])
    assert not canary.exists()
    yaml.unsafe_load(bomb)
    assert canary.exists(), "the bomb is real"


@pytest.mark.parametrize("name", ["results.md", "results.csv", "results.parquet", "trials.csv", "layers.csv"])
@pytest.mark.parametrize("kind", ["link", "second name"])
def test_a_reports_file_leads_nowhere(
    name: str, kind: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link or a second name in a file's place is replaced by the file; what it led to is as before."""
    draw_nothing(monkeypatch)
    (tmp_path / "mine").write_text("mine")
    getattr(results / name, "symlink_to" if kind == "link" else "hardlink_to")(tmp_path / "mine")
    before = outside(tmp_path)
    build_report(results, rows(results), scale="smoke")
    assert outside(tmp_path) == before
    assert not (results / "results.md").is_symlink()


def test_a_folder_of_figures_leads_nowhere(results: Path, tmp_path: Path, drawing: Command) -> None:
    """A link to another folder is refused in one line, before anything is written."""
    (tmp_path / "elsewhere").mkdir()
    (results / "figures").symlink_to(tmp_path / "elsewhere")
    before = outside(tmp_path)
    said = drawing("--report-only")
    assert said.refused
    assert "figures is a symbolic link, which may lead elsewhere" in said.err
    assert outside(tmp_path) == before


@pytest.mark.parametrize("name", ["results.md", "results.parquet", "figures"])
def test_what_cannot_be_replaced_is_one_line(name: str, results: Path, drawing: Command) -> None:
    """A folder in a file's place, a file in the figures' place."""
    if name == "figures":
        (results / name).write_text("a file")
    else:
        (results / name).mkdir()
    assert drawing("--report-only").refused


def test_a_trial_that_is_a_link_is_refused(results: Path, tmp_path: Path, command: Command) -> None:
    """The command names the link; the report by itself shows none of what lies behind it."""
    shutil.move(folder_of(results), tmp_path / "behind")
    folder_of(results).symlink_to(tmp_path / "behind")
    for look in ("--status", "--plan", "--report-only"):
        said = command(look)
        assert said.refused
        assert "seed-1 is a symbolic link" in said.err
    build_report(results, rows(results), scale="smoke")
    assert dict(zip(*[read_trials(results, rows(results))[name] for name in ("seed", "status")], strict=True)) == {
        0: "done",
        1: "unreadable",
    }


BESIDE = ("costs.json", "known-hashes.json", "gpu-memory.json", "driver.json", "driver.log", "set-aside", "mlflow")


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nonsense"])
def test_what_lies_beside_the_trials_stops_no_look(name: str, kind: str, results: Path, command: Command) -> None:
    """Links, folders, pipes and nonsense under the names of the folder's own files: every look ends, none writes."""
    path, mine = results / name, results.with_name("mine")
    mine.write_text("mine")
    {
        "link": lambda: path.symlink_to(mine),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "nonsense": lambda: path.write_text('{"version": 1, "files": {"../x": 3}, "heartbeat": [], "pid": "\\u001b"}'),
    }[kind]()
    for look in ("--status", "--plan", "--report-only"):
        said = command(look)
        assert said.refused or said.code == 0
    assert mine.read_text() == "mine"


def test_texts_of_a_record_do_not_become_the_page(results: Path) -> None:
    """A host or a reason with Markdown, HTML or a link in it stands in the page as text."""
    evil = "|x`<script>alert(1)</script>](javascript:alert(1)) ![x](http://evil/x.png)\n# heading\x1b[2J\u202e"
    rewrite(folder_of(results, 0), lambda values: values["provenance"].update(hostname=evil, commit=evil), seal=True)
    Store.open(results).set_aside(spec_of(results, 1))
    Store.open(results).record_failure(spec_of(results, 1), evil, evil + "\n```\n<img src=x onerror=alert(1)>")
    page = build_report(results, rows(results), scale="smoke").markdown.read_text()
    outside_code = without_code(page)
    for forbidden in ("<script", "<img", "](javascript", "](http", "\x1b", "\u202e"):
        assert not any(forbidden in line for line in outside_code), forbidden
    assert not any(line.startswith("# heading") for line in outside_code)


def without_code(page: str) -> list[str]:
    """Return a page's lines without fenced blocks and code spans."""
    body = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", page, flags=re.DOTALL | re.MULTILINE)
    body = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", body)
    return [line.replace("\\]", "").replace("\\[", "") for line in body.splitlines()]
