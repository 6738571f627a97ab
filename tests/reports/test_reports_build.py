"""The whole report: its files, its words, its figures; the same bytes for the same results."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from support.stubs.reports_store import KEPT, row, write_failure, write_running, write_trial

from reports import ReportPaths, build_report, wiring_picture
from reports.figures.style import row_colours, spread_apart
from reports.figures.wiring import DEAD, LIVE
from reports.rows import parse_rows

DATE = "2026-01-02 03:04 UTC"


def small_store(results: Path, scale: str) -> list[dict[str, Any]]:
    """Write four rows in different states and return them as the pipeline would."""
    rows = [
        row("static-random", scale=scale, published_mean=76.1, published_std=0.5, epochs=4),
        row("static-dnw", scale=scale, epochs=4, notes=["odd | choice <b>"]),
        row("broken", scale=scale, epochs=4, seeds=[0, 1]),
        row("static-dnw-corrected", scale=scale, epochs=4, extra=True, corrects="static-dnw", published_mean=None,
            published_std=None),
    ]  # fmt: skip
    for seed in range(5):
        write_trial(results, rows[0], seed, 0.761 + 0.001 * seed, dead=4_940)
        write_trial(results, rows[1], seed, 0.75 + 0.001 * seed)
    write_trial(results, rows[2], 0, 0.3)
    write_failure(results, rows[2], 1, "the loss is not finite at epoch 2", "epoch 1 fine\n```\nTrialFailed: nan\ud800")
    write_trial(results, rows[3], 0, 0.8)
    write_running(results, rows[3], 1, epoch=2)
    return rows


@pytest.fixture(scope="module")
def paper_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], ReportPaths]:
    """The rows of a small store at paper scale, and the report of them, which lies in the store's folder."""
    folder = tmp_path_factory.mktemp("paper")
    rows = small_store(folder, "paper")
    return rows, build_report(folder, rows, scale="paper", command="the command", generated_at=DATE)


def test_a_paper_report(paper_report: tuple[list[dict[str, Any]], ReportPaths]) -> None:
    """At paper scale: no banner, every number, verdict, legend, figure, command, origin and failure is there."""
    _, paths = paper_report
    folder = paths.markdown.parent
    text = paths.markdown.read_text("utf-8")
    assert "NO REPRODUCTION" not in text
    assert "no reproduction" not in text
    assert "**2 of 4 rows are complete** (12 of 17 trials done)" in text
    assert r"`static-random` | **76.3 ± 0.2** (5) | 76.1 to 76.5 | 76.1 ± 0.5 (5\*) | +0.2 |" in text
    assert "| **matches** |" in text
    assert "| **differs −** |" in text
    assert "**failed**<br>seed 1: the loss is not finite at epoch 2 |" in text
    assert "| **partial 1/5** |" in text
    assert "- **matches**: ours lies within 1 percentage point" in text
    assert "| 36.5k | 12.0M | 4 | paper | 1 h 10 min |" in text
    assert text.index("`static-dnw` |") < text.index("### Extra rows") < text.index("`static-dnw-corrected` |")
    assert "from the paper's poster" in text
    assert "odd \\| choice &lt;b&gt;" in text
    assert "Commit:** `ebb75f6d0c` + uncommitted changes" in text
    assert "torch 2.10.0" in text
    assert "--only 'tiny/static-random'" in text
    assert "````text\nepoch 1 fine\n```\nTrialFailed: nan?\n````" in text
    assert DATE in text
    for link in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text):
        assert (folder / link).read_bytes().startswith(b"\x89PNG")
    assert len(paths.figures) == 9  # curves, dots, swapped, live, dead, four wirings
    assert {path.name for path in folder.rglob("*") if ".tmp" in path.name} == set()


@pytest.mark.parametrize("scale", ["smoke", "short"])
def test_below_paper_scale_nothing_looks_like_a_reproduction(tmp_path: Path, scale: str) -> None:
    """The banner stands before everything else, every verdict carries the scale, no difference is given."""
    rows = small_store(tmp_path, scale)
    paths = build_report(tmp_path, rows, scale=scale, generated_at=DATE)
    text = paths.markdown.read_text("utf-8")
    assert text.splitlines()[2] == f"> ## {scale.upper()} SCALE: THIS IS NOT A REPRODUCTION"
    frame = pd.read_parquet(tmp_path / "results.parquet")
    assert frame["verdict"].str.endswith(f"({scale}: no reproduction)").all()
    assert frame["difference"].isna().all()
    assert "dashed" not in text


def test_the_data_files(paper_report: tuple[list[dict[str, Any]], ReportPaths]) -> None:
    """results.* hold a typed line a row without machine or time; trials.* hold every seed, raw."""
    rows, paths = paper_report
    folder = paths.markdown.parent
    results = pd.read_parquet(folder / "results.parquet")
    assert list(results["row"]) == [given["row"] for given in rows]
    assert results["mean"].iloc[0] == pytest.approx(76.3)
    assert results["mean"].dtype == "float64"
    assert not {"seconds", "hostname", "command", "reason", "started_at"} & set(results.columns)
    csv = pd.read_csv(folder / "results.csv")
    assert list(csv.columns) == list(results.columns)
    assert list(csv["verdict"]) == list(results["verdict"])
    trials = pd.read_parquet(folder / "trials.parquet")
    assert len(trials) == len(pd.read_csv(folder / "trials.csv")) == 14
    assert sorted(trials.loc[trials["row"] == "static-dnw", "accuracy"]) == pytest.approx([75, 75.1, 75.2, 75.3, 75.4])
    assert {"seconds", "processor", "packages"} <= set(trials.columns)


@pytest.mark.usefixtures("no_figures")
def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    """results.parquet is the same on another machine, at another time, with other seconds; and for a frame of rows."""
    first, second = tmp_path / "a", tmp_path / "b"
    rows = small_store(first, "paper")
    small_store(second, "paper")
    for path in second.rglob("trial.json"):
        text = path.read_text("utf-8").replace("node7", "node8").replace("4210.5", "99.5").replace("EPYC", "Xeon")
        path.write_text(text, "utf-8")
    build_report(first, rows, scale="paper", generated_at=DATE)
    build_report(second, pd.DataFrame(rows), scale="paper")
    for name in ("results.parquet", "results.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert pq.read_schema(first / "results.parquet").metadata is None


def test_hostile_names_stay_inside(tmp_path: Path) -> None:
    """Ids, labels and titles that are paths, Markdown, mathtext or formulas harm neither files nor structure."""
    hostile = row(
        "=cmd()|..@a=b c",
        table="tiny'$x_{$",
        table_title="# $^$ `t`",
        label="$\\frac{$ | <img src=x> **b** 漢",
        epochs=2,
        seeds=[0],
        corrects="<i>",
        command="a ``` b\n```\nrm",
    )
    outside = row("../../../../x", table="..", epochs=2)
    write_trial(tmp_path / "results", hostile, 0, 0.5)
    results = tmp_path / "results"
    paths = build_report(results, [hostile, outside], scale="paper")
    assert list(tmp_path.iterdir()) == [results]
    assert {path.parent for path in paths.figures} == {results / "figures"}
    text = paths.markdown.read_text("utf-8")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<img src=x" not in html
    assert "<i>" not in html
    assert html.count("<h1>") == 1
    rows = [line for line in text.splitlines() if line.startswith("| ") and "cmd()" in line]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in rows] == [13]
    assert "'=cmd()" in (results / "results.csv").read_text("utf-8")
    assert pd.read_parquet(results / "results.parquet")["row"].iloc[0] == "=cmd()|..@a=b c"


def test_nothing_at_all(tmp_path: Path) -> None:
    """Without rows, or without results, there is still a report that says so, and no empty figure."""
    assert "0 of 0 rows" in build_report(tmp_path, [], scale="paper").markdown.read_text("utf-8")
    paths = build_report(tmp_path, [row(scale="smoke", data_missing="no images")], scale="smoke")
    assert "**data missing (smoke: no reproduction)**<br>cannot be run now: no images" in paths.markdown.read_text(
        "utf-8"
    )
    assert paths.figures == ()


def test_the_wiring_picture_shows_every_edge(tmp_path: Path) -> None:
    """Two by two pixels an edge, receiving node down and sending node across, dead edges in the other colour."""
    from matplotlib.image import imread

    folder = write_trial(tmp_path, row(epochs=2), 0, dead=1_000)
    picture = imread(io.BytesIO(wiring_picture(folder / "wiring.npz", tmp_path / "w.png", title="t").read_bytes()))
    colours = {name: [int(code[i : i + 2], 16) for i in (1, 3, 5)] for name, code in (("live", LIVE), ("dead", DEAD))}
    pixels = np.rint(picture[:, :, :3] * 255).astype(int)
    with np.load(folder / "wiring.npz") as arrays:
        rows, columns, live = (arrays[f"graph.{part}"] for part in ("rows", "columns", "live"))
    top, left = 110 + 60, 124  # head and border, in pixels
    for name, mask in (("live", live), ("dead", ~live)):
        inner = (rows > 0) & (columns > 0) & (rows < 799) & (columns < 799) & mask  # the frame covers the outermost
        found = pixels[top + 2 * rows[inner] + 1, left + 2 * columns[inner]]
        assert (found == colours[name]).all()
    inside = pixels[top + 4 : top + 1596, left + 4 : left + 1596]
    coloured = (inside != 255).any(axis=2).sum()
    assert coloured == 4 * ((rows >= 2) & (rows < 798) & (columns >= 2) & (columns < 798)).sum()
    assert coloured > 4 * 0.98 * KEPT


def test_many_and_large_graphs(tmp_path: Path) -> None:
    """Several graphs of any shape, one larger than the picture, and an empty one are drawn too."""
    from matplotlib.image import imread

    arrays: dict[str, np.ndarray] = {}
    for index, shape in enumerate([(64, 32), (3000, 9000), (5, 5), (1, 700), *[(8, 8)] * 8]):
        rows = np.arange(shape[0], dtype=np.int32) if index != 2 else np.zeros(0, np.int32)
        arrays |= {
            f"block.{index}.rows": rows,
            f"block.{index}.columns": rows % shape[1],
            f"block.{index}.live": rows % 2 == 0,
            f"block.{index}.shape": np.array(shape),
        }
    np.savez(tmp_path / "w.npz", **arrays)
    assert imread(wiring_picture(tmp_path / "w.npz", tmp_path / "w.png")).shape[0] > 600


GOOD = {"rows": np.array([1]), "columns": np.array([0]), "live": np.array([True]), "shape": np.array([4, 4])}


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": np.array([9])},
        {"rows": np.array([-1])},
        {"columns": np.array([0, 1])},
        {"columns": np.array([0.0])},
        {"live": np.array([0.5])},
        {"shape": np.array([4])},
        {"shape": np.array([0, 4])},
        {"rows": np.array([len], object)},
        None,
    ],
)
def test_a_broken_wiring_file_is_a_clear_error(tmp_path: Path, changes: dict[str, np.ndarray] | None) -> None:
    """No shape, edges outside the shape, odd types and pickles are refused, and nothing is written."""
    source, target = tmp_path / "wiring.npz", tmp_path / "w.png"
    np.savez(source, **{f"g.{name}": array for name, array in GOOD.items()})
    wiring_picture(source, target)
    target.unlink()
    np.savez(
        source,
        **({"x": np.ones(1)} if changes is None else {f"g.{name}": array for name, array in (GOOD | changes).items()}),
    )
    with pytest.raises(ValueError, match=r"wiring\.npz|allow_pickle"):
        wiring_picture(source, target)
    assert not target.exists()


def test_a_file_that_is_no_archive_is_named_in_the_report(tmp_path: Path) -> None:
    """A wiring file that cannot be drawn costs its picture, not the report."""
    folder = write_trial(tmp_path, row(epochs=2, seeds=[0]), 0, files={})
    (folder / "wiring.npz").write_bytes(b"no archive")
    text = build_report(tmp_path, [row(epochs=2, seeds=[0])], scale="paper").markdown.read_text("utf-8")
    assert "no wiring picture of Static dnw, seed 0: wiring.npz: not a wiring file" in text
    with zipfile.ZipFile(folder / "wiring.npz", "w") as archive:
        archive.writestr("g.shape.npy", b"\x93NUMPY garbage")
    assert "no wiring picture" in build_report(tmp_path, [row(epochs=2, seeds=[0])], scale="paper").markdown.read_text(
        "utf-8"
    )


def test_colours_are_consistent_and_labels_do_not_overlap() -> None:
    """A corrected row wears its row's colour; up to 28 rows look different; labels keep their distance."""
    rows = parse_rows([*(row(f"r{i}") for i in range(28)), row("c", corrects="r3", extra=True)], "paper")
    looks = row_colours(rows)
    assert looks[rows[28].key] == looks[rows[3].key]
    assert len(set(looks.values())) == 28
    places = spread_apart([80.0, 80.1, 79.9, 20.0], gap=5, low=0, high=82)
    assert places == [pytest.approx(77.0), pytest.approx(82.0), pytest.approx(72.0), pytest.approx(20.0)]
