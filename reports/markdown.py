"""``results.md``: banner, summary, and for each table its numbers, legend, figures and details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.pictures import Picture
from reports.rows import ReportRow
from reports.sections.costs import cost_section
from reports.sections.details import row_details
from reports.sections.leftovers import Leftovers, leftover_section
from reports.sections.wiring_end import WiringEnd
from reports.text import DASH, code, count, duration, escape, grid, number, plus_minus, signed
from reports.verdicts import ASSUMPTION, EXPLANATIONS, PAPER_SCALE, Kind

Line = Mapping[str, Any]

_HEADER = (
    "Row",
    "Ours, mean ± std (n)",
    "95 % interval",
    "Published (n)",
    "Difference",
    "Verdict",
    "Best epoch",
    "Live parameters",
    "Live MACs",
    "Epochs",
    "Scale",
    "Time per trial",
)
_TOP5 = ("Top-5, ours", "Top-5, published")  # after the verdict, in a table that has published ones
_RIGHT = ("Live parameters", "Live MACs", "Epochs", "Difference", "Time per trial")
_COUNTS = (
    "*Live* parameters and MACs (multiply-adds) count only what the forward pass uses and what can influence the "
    "output of the network found, as a mean over seeds; each row's details give them beside the nominal (all kept "
    "edges) and the dense count. Accuracies are test top-1 in percent at the *last* epoch; *best epoch* picks the "
    "best test epoch, as some papers do, and is never compared. Differences are in percentage points."
)
_TOP5_NOTE = "Verdict and difference are those of the top-1 accuracy; *top-5* is that of the last epoch, too."


@dataclass(frozen=True)
class TableView:
    """One table of the report: its rows, their summary lines, and its figures (paths relative to the report)."""

    name: str
    title: str
    rows: Sequence[ReportRow]
    lines: Sequence[Line]
    ends: Sequence[WiringEnd]  # a row
    pictures: Sequence[tuple[Picture, str]]  # with its link
    wirings: Sequence[tuple[ReportRow, int, str]]  # row, seed, picture
    problems: Sequence[str]
    costs: Sequence[Line]  # with COST_COLUMNS
    layers: pd.DataFrame


def render(
    views: Sequence[TableView],
    trials: pd.DataFrame,
    *,
    generated_at: str,
    command: str | None,
    leftovers: Leftovers = (),
) -> str:
    """Return the whole report as GitHub-flavoured Markdown (plain CommonMark readers lose only the tables)."""
    rows = [row for view in views for row in view.rows]
    lines = [line for view in views for line in view.lines]
    parts = ["# Results: Discovering Neural Wirings, reproduced", *_banner(rows), _summary(lines, generated_at)]
    if command:
        parts.append(f"Command: {code(command)}")
    for view in views:
        parts += _table(view, trials)
    parts += leftover_section(leftovers)
    parts += [
        "---",
        "The numbers of this page: `results.csv` and `results.parquet` (one line per row), `trials.csv` and "
        "`trials.parquet` (one line per seed)"
        + (", `costs.csv` and `costs.parquet` (parameters and multiply-adds)" if any(v.costs for v in views) else "")
        + (", `layers.csv` and `layers.parquet` (weights kept per layer)" if any(len(v.layers) for v in views) else "")
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _banner(rows: Sequence[ReportRow]) -> list[str]:
    scales = sorted({row.scale for row in rows if row.scale != PAPER_SCALE})
    if not scales:
        return []
    names = " and ".join(code(scale) for scale in scales)
    heading = " and ".join(escape(scale).upper() for scale in scales)
    also = "" if all(row.scale != PAPER_SCALE for row in rows) else " Rows at `paper` scale are marked as such below."
    return [
        f"> ## {heading} SCALE: THIS IS NOT A REPRODUCTION\n>\n"
        f"> Scale {names} proves that every step runs, from the recipe to this page. It says nothing about the "
        f"accuracy of a method, and no number here may be compared with a published one. "
        f"Only `--scale paper` trains as published.{also}"
    ]


def _summary(lines: Sequence[Line], generated_at: str) -> str:
    lost = sum(line["verdict_kind"] == Kind.NOT_REPRODUCIBLE for line in lines)
    complete = sum(line["done"] == line["planned"] for line in lines) - lost
    done = sum(int(line["done"]) for line in lines)
    planned = sum(int(line["planned"]) for line in lines)
    scales = ", ".join(dict.fromkeys(str(line["scale"]) for line in lines))
    kinds = [Kind(line["verdict_kind"]) for line in lines]
    verdicts = ", ".join(f"{kinds.count(kind)} {escape(kind)}" for kind in Kind if kind in kinds)
    return (
        f"*{escape(generated_at)} · scale {escape(scales) or DASH}*\n\n"
        f"**{complete} of {len(lines) - lost} rows are complete** ({done} of {planned} trials done). "
        f"Verdicts: {verdicts or 'none'}."
    )


def _table(view: TableView, trials: pd.DataFrame) -> list[str]:
    parts = [f"## {escape(view.title)}", f"Table {code(view.name)}"]
    pairs = list(zip(view.rows, view.lines, strict=True))
    groups = (
        ("", [pair for pair in pairs if not pair[0].extra and not pair[0].variant]),
        ("### Extra rows, not in the paper", [pair for pair in pairs if pair[0].extra and not pair[0].variant]),
        ("### Variants, made with `--set`", [pair for pair in pairs if pair[0].variant]),
    )
    top5 = any(row.published_top5 is not None for row in view.rows)
    for heading, members in groups:
        if members:
            parts += ([heading] if heading else []) + [_grid(members, top5=top5)]
    parts.append(_legend([Kind(line["verdict_kind"]) for line in view.lines], top5=top5))
    parts += cost_section(view.costs)
    parts += _pictures(view.pictures)
    if view.wirings:
        parts += ["### Wirings found", _gallery(view.wirings)]
    parts += [f"- {escape(problem)}" for problem in view.problems]
    parts.append("### Details of each row")
    parts += [
        row_details(row, line, trials, end, view.layers) for (row, line), end in zip(pairs, view.ends, strict=True)
    ]
    return parts


def _grid(pairs: Sequence[tuple[ReportRow, Line]], *, top5: bool) -> str:
    after = _HEADER.index("Verdict") + 1
    header = (*_HEADER[:after], *(_TOP5 if top5 else ()), *_HEADER[after:])
    return grid(header, [_cells(row, line, top5=top5) for row, line in pairs], _RIGHT)


def _cells(row: ReportRow, line: Line, *, top5: bool) -> list[str]:
    n = int(line["n"])
    return [
        f"{escape(row.label)}<br>{code(row.row)}",
        f"**{plus_minus(line['mean'], line['std'])}** ({n})" if n else DASH,
        _interval(line),
        published(line),
        signed(line["difference"]),
        f"**{escape(line['verdict'])}**{_reason(row, line)}",
        *([plus_minus(line["top5_mean"], line["top5_std"]), number(line["published_top5"])] if top5 else []),
        plus_minus(line["best_mean"], line["best_std"]),
        count(line["live_parameters"]),
        count(line["live_macs"]),
        number(float(line["epochs"]), 0) if pd.notna(line["epochs"]) else DASH,
        escape(row.scale),
        duration(line["seconds"]),
    ]


def _reason(row: ReportRow, line: Line) -> str:
    if pd.isna(line["reason"]):
        return ""
    blocked = row.held_up is not None and line["reason"] == row.held_up
    return f"<br>{'cannot be run now: ' if blocked else ''}{escape(line['reason'])}"


def _interval(line: Line) -> str:
    if pd.isna(line["ci_low"]):
        return DASH
    # an accuracy cannot leave 0..100, the interval of a few seeds can; the data files hold it uncut
    return f"{number(max(line['ci_low'], 0.0))} to {number(min(line['ci_high'], 100.0))}"


def published(line: Line) -> str:
    """Return what was published for a row, given its line of ``summarise``'s frame."""
    if pd.isna(line["published_mean"]):
        return DASH
    text = plus_minus(line["published_mean"], line["published_std"])
    if pd.notna(line["published_std"]):
        assumed = "\\*" if line["published_n_assumed"] else ""
        text += f" ({line['published_n']}{assumed})"
    if line["published_recipe"] == "other":
        text += "<br>other recipe"
    if pd.isna(line["quoted_origin"]):
        return text
    differs = pd.notna(line["quoted_mean"]) and line["quoted_mean"] != line["published_mean"]
    return f"{text}<br>quoted" + (f", {number(line['quoted_mean'])} at its source" if differs else "")


def _legend(kinds: Sequence[Kind], *, top5: bool) -> str:
    words = [f"- **{escape(kind)}**: {EXPLANATIONS[kind]}" for kind in Kind if kind in kinds]
    notes = [ASSUMPTION, _COUNTS, *([_TOP5_NOTE] if top5 else [])]
    return "\n".join(["**Verdicts**", "", *words, "", " ".join(notes)])


def _pictures(pictures: Sequence[tuple[Picture, str]]) -> list[str]:
    parts: list[str] = []
    heading = None
    for picture, link in pictures:
        if picture.heading != heading:
            heading = picture.heading
            parts.append(f"### {heading}")
        parts.append(f"![{picture.name}]({link})")
        if picture.caption:
            parts.append(f"*{picture.caption}*")
    return parts


def _gallery(wirings: Sequence[tuple[ReportRow, int, str]]) -> str:
    """Return the pictures three in a line."""
    across = min(3, len(wirings))
    cells = [f"![{escape(row.label)}, seed {seed}]({picture})" for row, seed, picture in wirings]
    cells += [""] * (-len(cells) % across)
    rows = ["| " + " | ".join(cells[start : start + across]) + " |" for start in range(0, len(cells), across)]
    return "\n".join([rows[0], "|" + " :---: |" * across, *rows[1:]])
