"""Accuracy against the number of edges: which rows are points, which share a line, and what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.stubs.reports_store import row, wired, write_trial

from reports import build_report, read_trials
from reports.edge_points import edge_points
from reports.figures import edges
from reports.figures.style import row_colours
from reports.rows import parse_rows

# row, network, rule, edges, accuracy of seed 0 (seed 1 is 2 points better), what else the row says
SPECS: list[tuple[str, str, str, int, float, dict[str, Any]]] = [
    ("dnw-225", "graph", "top-edges", 200, 0.88, {"published_mean": 89.7}),
    ("dnw-225-fixed", "graph", "top-edges", 200, 0.89, {"extra": True, "published_mean": None}),
    ("dnw-49", "graph", "top-edges", 800, 0.90, {"extra": True, "published_mean": None}),
    ("random-225", "graph", "fixed-random", 200, 0.86, {"published_mean": 87.2}),
    ("layers", "mobilenet", "fixed-random", 400, 0.85, {"published_mean": None}),
    ("dense", "mobilenet", "dense", 0, 0.86, {}),
    ("dnw-15@a=1", "graph", "top-edges", 100, 0.84, {"variant": True}),
]


def store(results: Path, scale: str = "paper") -> list[dict[str, Any]]:
    """Write the rows above, two planned seeds each and one that was not, and one row without results."""
    rows = []
    for name, kind, rule, kept, accuracy, changes in SPECS:
        given = row(name, epochs=2, seeds=[0, 1], scale=scale, **changes)
        for seed, value in ((0, accuracy), (1, accuracy + 0.02), (7, 0.1)):
            write_trial(results, given, seed, value, graph=kept > 0, **wired(kind, rule, kept))
        rows.append(given)
    return [*rows, row("not yet", seeds=[0], scale=scale)]


def points_of(results: Path, rows: list[dict[str, Any]], scale: str = "paper") -> pd.DataFrame:
    """Return the frame of points, by row."""
    parsed = parse_rows(rows, scale)
    points = edge_points(parsed, read_trials(results, rows))
    return points.set_index(pd.Index([parsed[place].row for place in points["place"]]))


def test_the_points_by_hand(tmp_path: Path) -> None:
    """Edges, mean and std of the planned seeds; nothing for rows without edges or results."""
    points = points_of(tmp_path, store(tmp_path))
    assert list(points.index) == [name for name, *_ in SPECS if name != "dense"]
    assert points["edges"].tolist() == [200, 200, 800, 200, 400, 100]
    assert points["mean"].tolist() == pytest.approx([89, 90, 91, 87, 86, 85])
    assert points["std"].tolist() == pytest.approx([2**0.5] * 6)
    assert set(points["n"]) == {2}
    assert points["published"].dropna().to_dict() == {"dnw-225": 89.7, "random-225": 87.2}


def test_a_line_joins_one_network_and_one_rule(tmp_path: Path) -> None:
    """Only rows with two or more edge counts share one; at a count met twice it goes through the published row."""
    lines = points_of(tmp_path, store(tmp_path))["line"].dropna()
    assert lines.to_dict() == {"dnw-225": 0, "dnw-49": 0, "dnw-15@a=1": 0}


def test_no_published_mark_below_paper_scale(tmp_path: Path) -> None:
    """At smoke scale the points have no published mean, and the title says that it is no reproduction."""
    rows = store(tmp_path, "smoke")
    assert points_of(tmp_path, rows, "smoke")["published"].isna().all()


def test_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logarithmic axis; the line through the means by rising edges; hollow published marks; each row named."""
    kept: list[Any] = []
    monkeypatch.setattr(edges, "save", lambda drawn, path: kept.append(drawn) or path)
    parsed = parse_rows(rows := store(tmp_path), "paper")
    points = edge_points(parsed, read_trials(tmp_path, rows))
    looks = row_colours(parsed)
    assert edges.draw_edges("Title", parsed, points, looks, tmp_path / "x.png") is not None
    axes = kept[0].axes[0]
    assert axes.get_xscale() == "log"
    line = axes.lines[0]
    assert list(line.get_ydata()) == pytest.approx([85, 89, 91])
    assert list(line.get_xdata()) == pytest.approx([100, 200, 800])
    assert line.get_color() == looks[parsed[0].key][0]
    hollow = [mark for mark in axes.lines if mark.get_marker() == "D"]
    assert [mark.get_ydata()[0] for mark in hollow] == [89.7, 87.2]
    assert {mark.get_color() for mark in hollow} == {"white"}
    assert len(axes.texts) == 6
    assert axes.texts[0].get_text() == "89.0 ± 1.4  Dnw 225"
    (legend,) = kept[0].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["ours: mean ± std over seeds", "published mean", "graph, top-edges"]


def test_equal_edge_counts_give_no_figure(tmp_path: Path) -> None:
    """A table with 32,000 edges everywhere, or with a single row, has no such figure; one more count has it."""
    rows = [row("a", epochs=2, seeds=[0]), row("b", epochs=2, seeds=[0]), row("c", epochs=2, seeds=[0])]
    for given in rows:
        write_trial(tmp_path, given, 0, **(wired("graph", "top-edges", 64_000) if given["row"] == "c" else {}))
    without = build_report(tmp_path, rows[:2], scale="paper")
    assert "number of edges" not in without.markdown.read_text("utf-8")
    assert "tiny-accuracy-vs-edges.png" not in {path.name for path in without.figures}
    text = build_report(tmp_path, rows, scale="paper").markdown.read_text("utf-8")
    assert "### Accuracy against number of edges\n\n![accuracy against number of edges](figures/tiny-accuracy" in text
    assert "Hollow marks are published means" in text


@pytest.mark.usefixtures("no_figures")
def test_odd_recipes_and_costs_are_points_or_nothing(tmp_path: Path) -> None:
    """A recipe that does not tell network or rule groups nothing; a trial without its cost is left out."""
    rows = [row(name, epochs=2, seeds=[0]) for name in ("no-kind", "odd", "no-cost", "good")]
    changes: list[dict[str, Any]] = [
        {"recipe": {}, "cost": wired("g", "r", 10)["cost"]},
        {"recipe": {"network": ["x"], "wiring": {"rule": 3}}, "cost": wired("g", "r", 20)["cost"]},
        {"cost": None},
        wired("g", "r", 30),
    ]
    for given, change in zip(rows, changes, strict=True):
        write_trial(tmp_path, given, 0, **change)
    points = points_of(tmp_path, rows)
    assert list(points.index) == ["no-kind", "odd", "good"]
    assert points["line"].isna().all()
    assert points["std"].isna().all()
    build_report(tmp_path, rows, scale="paper")


def test_marks_step_aside_only_where_they_would_hide_each_other() -> None:
    """Same edges and overlapping values: 0, -1, 1 steps; same edges far apart, or other edges: at their place."""
    points = pd.DataFrame({"edges": [100.0, 100, 100, 100, 900], "mean": [80.0, 80.1, 80.2, 90, 80]})
    points["std"], points["published"] = [0.3, np.nan, 0.3, 0.3, 0.3], [np.nan] * 5
    assert edges.lanes(points).tolist() == [0, -1, 1, 0, 0]
    points.loc[3, "published"] = 80.0  # what is published takes room too
    assert edges.lanes(points).tolist() == [0, -1, 1, -2, 0]


@pytest.mark.parametrize("counts", [(158_944, 160_000), (70_641, 753_816), (10, 12_000_000), (3, 4)])
def test_every_range_of_edges_has_named_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int]
) -> None:
    """From nearly equal counts to six decades the axis names at least two different numbers."""
    kept: list[Any] = []
    monkeypatch.setattr(edges, "save", lambda drawn, path: kept.append(drawn) or path)
    rows = [row(str(count), epochs=2, seeds=[0]) for count in counts]
    for given, count in zip(rows, counts, strict=True):
        write_trial(tmp_path, given, 0, **wired("g", "r", count))
    parsed = parse_rows(rows, "paper")
    edges.draw_edges("T", parsed, edge_points(parsed, read_trials(tmp_path, rows)), row_colours(parsed), tmp_path / "x")
    axes = kept[0].axes[0]
    low, high = axes.get_xlim()
    ticks = [float(tick) for tick in axes.get_xticks() if low <= tick <= high]
    names = [axes.xaxis.get_major_formatter()(tick) for tick in ticks]
    assert 2 <= len(ticks) <= 12
    assert len(set(names)) >= 2
