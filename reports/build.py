"""``build_report``: the store and the planned rows in; Markdown, data files and figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from reports.export import write_results, write_trials
from reports.figures.curves import draw_curves
from reports.figures.dots import draw_dots
from reports.figures.style import row_colours
from reports.figures.wiring import wiring_picture
from reports.files import write_text
from reports.markdown import TableView, render
from reports.records import WIRING_FILE
from reports.rows import ReportRow, Rows, parse_rows
from reports.summary import summarise, trials_of
from reports.text import plain, slug
from reports.trials import read_history, read_trials

FIGURES = "figures"


@dataclass(frozen=True)
class ReportPaths:
    """What a report consists of."""

    markdown: Path
    csv: Path
    parquet: Path
    trials_csv: Path
    trials_parquet: Path
    figures: tuple[Path, ...]


def build_report(
    results_dir: Path,
    rows: Rows,
    *,
    scale: str,
    command: str | Callable[[Mapping[str, Any]], str] | None = None,
    out_dir: Path | None = None,
    generated_at: str | None = None,
) -> ReportPaths:
    """Write ``results.md``, ``results.*``, ``trials.*`` and ``figures/`` and return their paths.

    Args:
        results_dir: the results folder; it is only read, unless ``out_dir`` is left out.
        rows: one entry per row to be shown, in order (fields: ``reports.rows.ReportRow``).
        scale: the scale of every row that does not name its own.
        command: the command that made this report; or a function that gives the command of a row without one.
        out_dir: where to write; the results folder itself by default.
        generated_at: the date to print; now, in UTC, by default.

    Raises:
        ValueError: if a row is malformed or given twice. What lies on disk never raises.
        OSError: if the output folder cannot be written to.
    """
    parsed = parse_rows(rows, scale)
    if callable(command):
        entries = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
        made = [{str(name): value for name, value in entry.items()} for entry in entries]
        parsed = [replace(row, command=row.command or command(entry)) for row, entry in zip(parsed, made, strict=True)]
    out = results_dir if out_dir is None else out_dir

    trials = read_trials(results_dir, rows)
    summary = summarise(rows, trials, scale)
    views, figures = _views(results_dir, out, parsed, trials, summary)
    text = render(
        views,
        trials,
        generated_at=generated_at or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command if isinstance(command, str) else None,
    )
    csv, parquet = write_results(summary, out)
    trials_csv, trials_parquet = write_trials(trials, out)
    markdown = out / "results.md"
    write_text(markdown, text)  # last: what it points to is there by now
    return ReportPaths(markdown, csv, parquet, trials_csv, trials_parquet, tuple(figures))


def _views(
    results_dir: Path, out: Path, rows: Sequence[ReportRow], trials: pd.DataFrame, summary: pd.DataFrame
) -> tuple[list[TableView], list[Path]]:
    history = read_history(results_dir, trials)
    views, figures = [], []
    for table in dict.fromkeys(row.table for row in rows):
        chosen = [index for index, row in enumerate(rows) if row.table == table]
        members = [rows[index] for index in chosen]
        part = summary.iloc[chosen]
        title = members[0].table_title
        looks = row_colours(members)
        curves = draw_curves(title, members, history, looks, out / FIGURES / f"{slug(table)}-learning-curves.png")
        dots = draw_dots(title, members, part, trials, looks, out / FIGURES / f"{slug(table)}-ours-vs-published.png")
        wirings, problems = _draw_wirings(results_dir, out, members, trials)
        figures += [path for path in (curves, dots, *(path for _, _, path in wirings)) if path is not None]
        views.append(
            TableView(
                name=table,
                title=title,
                rows=members,
                lines=[{str(name): value for name, value in line.items()} for line in part.to_dict("records")],
                curves=_link(curves),
                dots=_link(dots),
                wirings=[(row, seed, f"{FIGURES}/{path.name}") for row, seed, path in wirings],
                problems=problems,
            )
        )
    return views, figures


def _link(path: Path | None) -> str | None:
    return None if path is None else f"{FIGURES}/{path.name}"


def _draw_wirings(
    results_dir: Path, out: Path, rows: Sequence[ReportRow], trials: pd.DataFrame
) -> tuple[list[tuple[ReportRow, int, Path]], list[str]]:
    """Draw the wiring of each row's lowest finished seed; also return why a picture could not be drawn."""
    drawn, problems = [], []
    for row in rows:
        mine = trials_of(row, trials)
        mine = mine[(mine["status"] == "done") & mine["seed"].isin(row.seeds)].sort_values("seed")
        if mine.empty:
            continue
        seed, folder = int(mine["seed"].iloc[0]), str(mine["folder"].iloc[0])
        source = results_dir / folder / WIRING_FILE
        if not source.is_file():  # a dense network has none
            continue
        target = out / FIGURES / f"{slug(row.table, row.row, row.fingerprint)}-wiring.png"
        try:
            path = wiring_picture(source, target, title=f"{plain(row.label, 60)}, seed {seed}")
        except ValueError as error:
            problems.append(f"no wiring picture of {row.label}, seed {seed}: {error}")
            continue
        drawn.append((row, seed, path))
    return drawn, problems
