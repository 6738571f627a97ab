"""The wiring over time: what is drawn by epoch, what stands in the details, and what a gap in the data costs."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.stubs.reports_store import row, wired, write_failure, write_trial

from reports import build_report, read_history, read_trials
from reports.epochs import by_epoch, with_wiring
from reports.figures import lines
from reports.figures.lines import ACCURACY, DEAD, LIVE, SWAPPED
from reports.figures.style import row_colours
from reports.rows import parse_rows
from reports.sections.wiring_end import WiringEnd, wiring_end

# three epochs of two seeds and, per column, their mean by hand
FIRST = {
    "edges": [100] * 3,
    "edges_swapped": [50_000, 10, 0],
    "live_edges": [90, 95, 100],
    "live_nodes": [780, 790, 800],
}
SECOND = {
    "edges": [100] * 3,
    "edges_swapped": [30_000, 30, 0],
    "live_edges": [80, 95, 99],
    "live_nodes": [700, 790, 798],
}
MEANS = {"edges_swapped": [40_000, 20, 0], "live_share": [85, 95, 99.5], "dead_nodes": [60, 10, 1]}
COST = wired("graph", "top-edges", 100, live_edges=100)


def frames(results: Path, given: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the trials and the history with the wiring's columns."""
    trials = read_trials(results, given)
    return trials, with_wiring(read_history(results, trials), trials)


def two_seeds(results: Path, **changes: Any) -> dict[str, Any]:
    """Write the two seeds above and one that was not planned, and return their row."""
    given = row("dnw", epochs=3, seeds=[0, 1, 2], **changes)
    write_trial(results, given, 0, 0.8, columns=FIRST, **COST)
    write_trial(
        results, given, 1, 0.8, columns=SECOND, **wired("graph", "top-edges", 100, live_edges=99, live_nodes=798)
    )
    write_trial(results, given, 9, 0.8, columns=FIRST | {"edges_swapped": [9, 9, 9]}, **COST)
    return given


def test_the_means_by_hand(tmp_path: Path) -> None:
    """Swapped edges, live share and dead nodes are means of the planned, finished seeds, from epoch 1 on."""
    given = two_seeds(tmp_path)
    _, history = frames(tmp_path, [given])
    parsed = parse_rows([given], "paper")[0]
    for column, wanted in MEANS.items():
        got = by_epoch(parsed, history, column)
        assert list(got.index) == [1, 2, 3]
        assert got["mean"].tolist() == pytest.approx(wanted)
    assert by_epoch(parsed, history, "edges_swapped").loc[1].tolist() == [40_000, 30_000, 50_000]


def captured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Keep the figures that are drawn instead of writing them."""
    kept: list[Any] = []

    def keep(drawn: Any, path: Path) -> Path:
        drawn.canvas.draw()
        kept.append(drawn)
        return path

    monkeypatch.setattr(lines, "save", keep)
    return kept


@pytest.mark.parametrize("measure", [SWAPPED, LIVE, DEAD])
def test_the_lines_drawn_are_the_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: lines.Measure) -> None:
    """A line a row, published rows above extra ones, in the row's colour, its last mean before its name at the end."""
    given = [two_seeds(tmp_path), row("extra", extra=True, epochs=3, label="Extra row"), row("nothing yet")]
    write_trial(tmp_path, given[1], 0, 0.8, columns=SECOND, **COST)
    parsed, looks = parse_rows(given, "paper"), row_colours(parse_rows(given, "paper"))
    _, history = frames(tmp_path, given)
    figures = captured(monkeypatch)
    assert lines.draw_lines(measure, "Title", parsed, history, looks, tmp_path / "x.png") is not None
    published, extra = figures[0].axes
    assert [len(axes.lines) for axes in (published, extra)] == [1, 1]
    assert list(published.lines[0].get_ydata()) == pytest.approx(MEANS[measure.column])
    assert published.lines[0].get_color() == looks[parsed[0].key][0]
    assert (published.get_title(loc="left").splitlines()[1]) == f"{measure.name} · published rows"
    wanted = measure.text(MEANS[measure.column][-1])
    assert [text.get_text() for text in published.texts] == [f"{wanted}  Dnw"]
    assert [text.get_text().split("  ")[1] for text in extra.texts] == ["Extra row"]
    low, high = published.get_ylim()
    assert low < min(MEANS[measure.column])
    assert max(MEANS[measure.column]) < high


def test_one_axis_shows_none_and_fifty_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0, 20 and 40,000 swapped edges stand well apart on the axis; names keep their distance at 0."""
    given = [two_seeds(tmp_path), *(row(f"still-{index}", epochs=3, seeds=[0]) for index in range(8))]
    for still in given[1:]:
        write_trial(tmp_path, still, 0, columns=FIRST | {"edges_swapped": [0, 0, 0]}, **COST)
    _, history = frames(tmp_path, given)
    parsed = parse_rows(given, "paper")
    figures = captured(monkeypatch)
    lines.draw_lines(SWAPPED, "Title", parsed, history, row_colours(parsed), tmp_path / "x.png")
    axes = figures[0].axes[0]
    places = [axes.transAxes.inverted().transform(axes.transData.transform((1, y)))[1] for y in (0, 20, 40_000)]
    assert 0.02 < places[0] < places[1] - 0.25 < places[2] - 0.5 < 0.5
    heights = sorted(float(text.xyann[1]) for text in axes.texts)
    assert len(heights) == 9
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.04


@pytest.mark.parametrize("epochs", [1, 2])
def test_few_epochs_are_marked_at_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """A single epoch is a visible mark on an axis of whole epochs, in the new figures and in the curves."""
    given = row(epochs=epochs, seeds=[0], scale="smoke")
    write_trial(tmp_path, given, 0)
    _, history = frames(tmp_path, [given])
    parsed = parse_rows([given], "smoke")
    figures = captured(monkeypatch)
    lines.draw_lines(ACCURACY, "Title", parsed, history, row_colours(parsed), tmp_path / "x.png")
    lines.draw_lines(SWAPPED, "Title", parsed, history, row_colours(parsed), tmp_path / "x.png")
    for drawn in figures:
        axes = drawn.axes[0]
        assert axes.lines[0].get_marker() == "o"
        left, right = axes.get_xlim()
        assert all(float(tick).is_integer() for tick in axes.get_xticks() if left <= tick <= right)
        assert left < 1 <= epochs < right
        assert axes.get_title(loc="left").endswith("smoke scale: no reproduction")


def test_missing_and_odd_columns_cost_only_their_figure(tmp_path: Path) -> None:
    """An old history without the counts, or with impossible ones, still gives its curve and what else it knows."""
    old = row("old", epochs=3, seeds=[0])
    odd = row("odd", epochs=3, seeds=[0])
    gone: dict[str, Any] = dict.fromkeys(("edges", "edges_swapped", "live_edges", "live_nodes"))
    write_trial(tmp_path, old, 0, columns=gone, dead=32)
    values = {"edges_swapped": ["x", "y", "7"], "live_edges": [math.inf, -1.0, 1e9], "live_nodes": [900, 900, 790]}
    write_trial(tmp_path, odd, 0, columns=values)
    trials, history = frames(tmp_path, [old, odd])
    first, second = parse_rows([old, odd], "paper")
    assert len(by_epoch(first, history, "test_accuracy")) == 3
    assert [len(by_epoch(first, history, name)) for name in MEANS] == [0, 0, 0]
    assert by_epoch(second, history, "edges_swapped")["mean"].to_dict() == {3: 7}
    assert len(by_epoch(second, history, "live_share")) == 0
    assert by_epoch(second, history, "dead_nodes")["mean"].to_dict() == {3: 10}
    assert wiring_end(first, trials, history) == WiringEnd(None, 31_968, 32_000, 5, 800)
    names = {path.name for path in build_report(tmp_path, [old], scale="paper").figures}
    assert not {"tiny-edges-swapped.png", "tiny-live-edges.png", "tiny-dead-nodes.png"} & names
    assert "tiny-learning-curves.png" in names


@pytest.mark.usefixtures("no_figures")
def test_the_end_by_hand(tmp_path: Path) -> None:
    """The details tell the last epoch's swaps, live edges and dead nodes, as means over the planned seeds."""
    given = two_seeds(tmp_path)
    trials, history = frames(tmp_path, [given])
    # 795 live nodes of the first seed's trial.json, 798 of the second's
    end = wiring_end(parse_rows([given], "paper")[0], trials, history)
    assert end == WiringEnd(swapped=0, live_edges=99.5, edges=100, dead_nodes=3.5, nodes=800)
    assert end.text == "0 edges swapped in the last epoch, 99.5 of 100 edges live (99.50 %), 3.5 of 800 nodes dead"
    assert WiringEnd().text is None
    assert WiringEnd(swapped=12_345.5).text == "12,346 edges swapped in the last epoch"
    text = build_report(tmp_path, [given], scale="paper").markdown.read_text("utf-8")
    assert f"- **Wiring at the end of training, mean over seeds:** {end.text}" in text


def test_each_figure_has_its_place_and_a_sentence(tmp_path: Path) -> None:
    """The figures stand under their headings in order, each with a caption, before the wirings found."""
    text = build_report(tmp_path, [two_seeds(tmp_path, scale="short")], scale="short").markdown.read_text("utf-8")
    marks = ["### Ours against published", "### Edges swapped", "(figures/tiny-edges-swapped.png)", "*Edges kept at an",
             "### Live edges and dead nodes", "(figures/tiny-live-edges.png)", "*Share of the kept edges",
             "(figures/tiny-dead-nodes.png)", "*Nodes that no longer", "### Wirings found"]  # fmt: skip
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert text.count("### Live edges and dead nodes") == 1


def test_networks_without_a_graph(tmp_path: Path) -> None:
    """Trials with no edge and an empty wiring file: a whole report without the wiring's figures, and no complaint."""
    rows = [row("dense", epochs=2, seeds=[0, 1], table="wirings"), row("dense-2", epochs=2, seeds=[0], table="wirings")]
    for given in rows:
        for seed in given["seeds"]:
            write_trial(tmp_path, given, seed, 0.86, graph=False)
    paths = build_report(tmp_path, rows, scale="paper")
    assert {path.name for path in paths.figures} == {"wirings-learning-curves.png", "wirings-ours-vs-published.png"}
    text = paths.markdown.read_text("utf-8")
    assert "of 41.5k, no graph, MACs 12.3M" in text
    assert "no wiring picture" not in text
    assert "Wiring at the end" not in text
    assert "Edges swapped" not in text
    assert list(pd.read_parquet(tmp_path / "trials.parquet")["edges"]) == [0, 0, 0]


def test_a_row_without_a_graph_stands_beside_those_with_one(tmp_path: Path) -> None:
    """In a mixed table it has no line where there is nothing to count: nothing is not zero."""
    dense, graph = row("dense", epochs=3, seeds=[0]), two_seeds(tmp_path)
    write_trial(tmp_path, dense, 0, 0.86, graph=False)
    _, history = frames(tmp_path, [dense, graph])
    parsed = parse_rows([dense, graph], "paper")
    assert [len(by_epoch(parsed[0], history, name)) for name in MEANS] == [0, 0, 0]
    assert [len(by_epoch(parsed[1], history, name)) for name in MEANS] == [3, 3, 3]


@pytest.mark.usefixtures("no_figures")
def test_a_row_whose_parent_failed_says_so(tmp_path: Path) -> None:
    """What a row waits for stands beside its verdict and in its details, until all of it is done."""
    reason = "blocked by wirings/complete seed 0 (failed: the loss is not finite at epoch 2)"
    blocked = row("lottery", epochs=2, seeds=[0, 1], blocked=reason)
    partly = row("fine-tune", epochs=2, seeds=[0, 1], blocked=reason)
    failed = row("failed", epochs=2, seeds=[0, 1], blocked=reason)
    done = row("done", epochs=2, seeds=[0], blocked=reason)
    write_trial(tmp_path, partly, 1, 0.8)
    write_failure(tmp_path, failed, 1, "killed")
    write_trial(tmp_path, done, 0, 0.8)
    rows = [blocked, partly, failed, done]
    text = build_report(tmp_path, rows, scale="paper").markdown.read_text("utf-8")
    assert f"**missing**<br>cannot be run now: {reason} |" in text
    assert f"**partial 1/2**<br>cannot be run now: {reason} |" in text
    assert "<br>seed 1: killed |" in text
    assert text.count(f"- **Cannot be run now:** 2 of 2 seeds are not done: {reason}") == 2
    assert text.count(f"- **Cannot be run now:** 1 of 2 seeds are not done: {reason}") == 1
    assert text.count(reason) == 5  # two cells, three details; nothing where the row is done
    assert "where it cannot be run now, the reason stands beside" in text
