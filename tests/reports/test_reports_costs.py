"""What the report says of costs, of quoted numbers, of rows without data and of rows that cannot be reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from support.stubs.reports_store import row, write_trial

from reports import build_report
from reports.sections.costs import COST_COLUMNS, HEADING, cost_section
from reports.verdicts import Progress, decide

DATE = "2026-01-02 03:04 UTC"
LOST = "architecture | unpublished"


def line(name: str, **changes: Any) -> dict[str, Any]:
    """A row's costs as the pipeline hands them over."""
    values = {
        "table": "tiny",
        "row": name,
        "label": f"The {name}",
        "extra": False,
        "after_training": False,
        "not_reproducible": None,
        "parameters_published": None,
        "parameters_nothing_dead": 1_228_448,
        "parameters_at_start": 1_228_403,
        "parameters_trained": None,
        "parameters_agreement": None,
        "macs_published": None,
        "macs_nothing_dead": 56_616_999,
        "macs_at_start": None,
        "macs_trained": None,
        "macs_agreement": None,
        "trained_seeds": 0,
    }
    return values | changes


def lost_row() -> dict[str, Any]:
    """A row that cannot be reproduced, as the pipeline hands it over."""
    values = row("lost", published_std=None, fingerprint="", seeds=(), not_reproducible=LOST, epochs=None, command=None)
    return values | {"quoted_mean": 80.9, "quoted_origin": "MnasNet, table 4"}


COSTS = [
    line("dnw", macs_published="42.1M", macs_agreement="only after training", parameters_published="1.1M",
         parameters_agreement="agrees", after_training=True),
    line("lost", parameters_nothing_dead=None, parameters_at_start=None, macs_nothing_dead=None,
         macs_published="65M", not_reproducible=LOST),
]  # fmt: skip


def cells_of(text: str) -> list[list[str]]:
    """The cells of the first table in the Markdown, as a reader sees them."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    rows = [part.split("</tr>")[0] for part in html.split("<tr>")[1:]]
    return [[cell.split("</t")[0].split(">", 1)[1] for cell in one.split("<t")[1:]] for one in rows]


def test_the_section_of_a_table() -> None:
    """Printed and counted numbers stand side by side; what is not known is a dash; the reason replaces agreement."""
    heading, grid, note = cost_section(COSTS)
    header, dnw, lost = cells_of(grid)
    assert heading == HEADING
    assert header == ["Row", "Parameters, published", "nothing dead", "at the start", "agreement",
                      "MACs, published", "nothing dead", "at the start", "agreement"]  # fmt: skip
    assert dnw[1:] == ["1.1M", "1.23M", "1.23M", "agrees", "42.1M", "56.6M", "–", "only after training"]
    reason = "not reproducible: architecture | unpublished"
    assert lost[1:] == ["–", "–", "–", reason, "65M", "–", "–", reason]
    assert "only after training" in note
    assert cost_section([]) == []


def test_nothing_printed_is_no_column() -> None:
    """Where no row has a published count, ours stand alone."""
    _, grid, _ = cost_section([line("one"), line("two")])
    header, one, _ = cells_of(grid)
    assert header == ["Row", "Parameters, nothing dead", "at the start", "MACs, nothing dead", "at the start"]
    assert one[1:] == ["1.23M", "1.23M", "56.6M", "–"]


def test_trained_counts_get_a_column() -> None:
    """As soon as one row has finished trials at paper scale."""
    _, grid, _ = cost_section([COSTS[1], COSTS[0] | {"macs_trained": 42_200_000.0, "trained_seeds": 2}])
    header, _, dnw = cells_of(grid)
    assert header.count("trained") == 2
    assert dnw[header.index("trained")] == "–"
    assert dnw[9:] == ["42.2M", "only after training"]


@pytest.mark.usefixtures("no_figures")
def test_the_report_has_the_costs_and_their_files(tmp_path: Path) -> None:
    """Each table has its own lines, and costs.csv and costs.parquet hold them all; without costs nothing changes."""
    rows = [row("dnw"), lost_row(), row("elsewhere", table="other", table_title="Other")]
    costs = [*COSTS, line("elsewhere", table="other")]
    without = build_report(tmp_path, rows, scale="paper", costs=None, generated_at=DATE)
    assert HEADING not in without.markdown.read_text("utf-8")
    assert not (tmp_path / "costs.csv").exists()
    paths = build_report(tmp_path, rows, scale="paper", costs=costs, generated_at=DATE)
    text = paths.markdown.read_text("utf-8")
    first, second = text.split("## Other")
    assert first.count(HEADING) == second.count(HEADING) == 1
    assert "The elsewhere" not in first
    assert "The elsewhere" in second
    assert "`costs.csv` and `costs.parquet`" in second
    frame = pd.read_parquet(tmp_path / "costs.parquet")
    assert list(frame.columns) == list(COST_COLUMNS)
    assert frame["macs_nothing_dead"].tolist()[0] == 56_616_999
    assert pd.read_csv(tmp_path / "costs.csv")["macs_published"].tolist()[:2] == ["42.1M", "65M"]


@pytest.mark.usefixtures("no_figures")
def test_a_row_that_cannot_be_reproduced_is_no_missing_one(tmp_path: Path) -> None:
    """It stands in its place with the reason as its verdict, and counts neither as complete nor as missing."""
    rows = [row("before", seeds=[0]), lost_row(), row("after", seeds=[0])]
    write_trial(tmp_path, rows[0], 0)
    paths = build_report(tmp_path, rows, scale="paper", generated_at=DATE)
    text = paths.markdown.read_text("utf-8")
    assert "**1 of 2 rows are complete** (1 of 2 trials done)" in text
    assert "1 missing, 1 not reproducible." in text
    assert r"| **not reproducible: architecture \| unpublished** |" in text
    assert text.index("`before` |") < text.index("`lost` |") < text.index("`after` |")
    assert "- **not reproducible**: nobody can train this row" in text
    details = text.split("<code>lost</code>")[1].split("</details>")[0]
    assert "Fingerprint" not in details
    assert "Make it again" not in details
    frame = pd.read_parquet(tmp_path / "results.parquet")
    lost = frame[frame["row"] == "lost"].iloc[0]
    assert (lost["verdict_kind"], lost["planned"], lost["missing"]) == ("not reproducible", 0, 0)


def test_a_lost_rows_scale_is_of_no_matter() -> None:
    """The verdict is the same at every scale, whatever the rest says."""
    for scale in ("smoke", "paper"):
        verdict = decide(Progress(0, 0), None, comparable=False, scale=scale, not_reproducible="why")
        assert verdict.text == "not reproducible: why"


@pytest.mark.usefixtures("no_figures")
def test_missing_data_are_a_word_of_their_own(tmp_path: Path) -> None:
    """Nothing run: data missing; some seeds run: partial. The reason stands beside either, in full in the details."""
    where = "imagenet was not found in here"
    rows = [row("nothing", data_missing=where), row("some", data_missing=where), row("unlike", blocked="blocked by x")]
    write_trial(tmp_path, rows[1], 0)
    text = build_report(tmp_path, rows, scale="paper", generated_at=DATE).markdown.read_text("utf-8")
    assert f"| **data missing**<br>cannot be run now: {where} |" in text
    assert f"| **partial 1/5**<br>cannot be run now: {where} |" in text
    assert "| **missing**<br>cannot be run now: blocked by x |" in text
    assert f"4 of 5 seeds are not done: {where}" in text
    assert "- **data missing**: nothing of this row has been run yet" in text


@pytest.mark.parametrize(
    ("quoted_mean", "cell", "detail"),
    [
        (
            54.3,
            "54.0<br>quoted, 54.3 at its source",
            "Deep Expander Networks, 54.30 % (the paper prints another number)",
        ),
        (54.0, "54.0<br>quoted", "Deep Expander Networks, 54.00 %"),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_a_quoted_number_names_its_source(tmp_path: Path, quoted_mean: float, cell: str, detail: str) -> None:
    """Both numbers where they differ, in table, details and data file; a variant has neither."""
    quoted = {"quoted_mean": quoted_mean, "quoted_origin": "Deep Expander Networks"}
    rows = [row("x4", published_mean=54.0, published_std=None, **quoted), row("x4@a=1", variant=True, **quoted)]
    rows[0] |= {"published_macs": "> 50M"}
    paths = build_report(tmp_path, rows, scale="paper", generated_at=DATE)
    text = paths.markdown.read_text("utf-8")
    assert f"| {cell} |" in text
    assert f"- **Quoted from:** {detail}\n" in text
    assert text.count("Quoted from") == 1
    line = pd.read_csv(tmp_path / "results.csv").iloc[0]
    assert (line["quoted_mean"], line["quoted_origin"], line["published_macs"]) == (
        quoted_mean,
        "Deep Expander Networks",
        "> 50M",
    )
