"""``build_report``: the store and the planned rows in; Markdown, data files and figures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from reports.epochs import with_wiring
from reports.export import write_results, write_trials
from reports.figures.wiring import wiring_picture
from reports.markdown import TableView, render
from reports.pictures import table_pictures
from reports.reading.files import refuse_link, write_text
from reports.reading.records import WIRING_FILE
from reports.rows import ReportRow, Rows, parse_rows
from reports.sections.costs import Costs, cost_frame, write_costs
from reports.sections.layers import read_layers, write_layers
from reports.sections.leftovers import Leftovers, write_leftovers
from reports.sections.wiring_end import wiring_end
from reports.summary import summarise, trials_of
from reports.text import plain, slug
from reports.trials import Histories, read_history, read_trials

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
    costs_csv: Path | None = None
    costs_parquet: Path | None = None
    layers_csv: Path | None = None
    layers_parquet: Path | None = None
    leftovers_csv: Path | None = None
    leftovers_parquet: Path | None = None


def build_report(
    results_dir: Path,
    rows: Rows,
    *,
    scale: str,
    command: str | Callable[[Mapping[str, Any]], str] | None = None,
    costs: Costs | None = None,
    leftovers: Leftovers = (),
    out_dir: Path | None = None,
    generated_at: str | None = None,
) -> ReportPaths:
    """Write ``results.md``, its data (``results.*``, ``trials.*``, ...) and ``figures/``; return their paths.

    Args:
        results_dir: the results folder; it is only read, unless ``out_dir`` is left out.
        rows: one entry per row to be shown, in order (fields: ``reports.rows.ReportRow``).
        scale: the scale of every row that does not name its own.
        command: the command that made this report; or a function that gives the command of a row without one.
        costs: what each row's network costs (fields: ``reports.sections.costs.COST_COLUMNS``); None leaves that out.
        leftovers: finished trials of no row, or of another recipe (fields: ``reports.sections.leftovers.Leftovers``).
        out_dir: where to write; the results folder itself by default.
        generated_at: the date to print; now, in UTC, by default.

    Raises:
        ValueError: if a row is malformed or given twice. What lies on disk never raises.
        OSError: if the output folder cannot be written to, or its figures would be written elsewhere.
    """
    parsed = parse_rows(rows, scale)
    if callable(command):
        entries = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
        made = [{str(name): value for name, value in entry.items()} for entry in entries]
        parsed = [replace(row, command=row.command or command(entry)) for row, entry in zip(parsed, made, strict=True)]
    out = results_dir if out_dir is None else out_dir
    refuse_link(out / FIGURES)

    histories: Histories = {}
    trials = read_trials(results_dir, rows, histories)
    history = with_wiring(read_history(results_dir, trials, histories), trials)
    histories.clear()
    summary = summarise(rows, trials, scale)
    counted = cost_frame(costs or ())
    layers = read_layers(results_dir, parsed, trials)
    views, figures = _views(results_dir, out, parsed, trials, history, summary, layers)
    views = [replace(view, costs=_lines(counted[counted["table"] == view.name])) for view in views]
    text = render(
        views,
        trials,
        generated_at=generated_at or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command if isinstance(command, str) else None,
        leftovers=leftovers,
    )
    csv, parquet = write_results(summary, out)
    trials_csv, trials_parquet = write_trials(trials, out)
    cost_files = write_costs(counted, out) if len(counted) else (None, None)
    layer_files = write_layers(layers, out) if len(layers) else (None, None)
    leftover_files = write_leftovers(leftovers, out)
    markdown = out / "results.md"
    write_text(markdown, text)  # last: what it points to is there by now
    tables = (*cost_files, *layer_files, *leftover_files)
    return ReportPaths(markdown, csv, parquet, trials_csv, trials_parquet, tuple(figures), *tables)


def _views(
    results_dir: Path,
    out: Path,
    rows: Sequence[ReportRow],
    trials: pd.DataFrame,
    history: pd.DataFrame,
    summary: pd.DataFrame,
    layers: pd.DataFrame,
) -> tuple[list[TableView], list[Path]]:
    views, figures = [], []
    for table in dict.fromkeys(row.table for row in rows):
        chosen = [index for index, row in enumerate(rows) if row.table == table]
        members = [rows[index] for index in chosen]
        part = summary.iloc[chosen]
        pictures = table_pictures(members, part, trials, history, layers, out / FIGURES)
        pictured = [row for row in members if trials_of(row, layers).empty]
        wirings, problems = _draw_wirings(results_dir, out, pictured, trials)
        figures += [*(picture.path for picture in pictures), *(path for _, _, path in wirings)]
        views.append(
            TableView(
                name=table,
                title=members[0].table_title,
                rows=members,
                lines=_lines(part),
                ends=[wiring_end(row, trials, history) for row in members],
                pictures=[(picture, f"{FIGURES}/{picture.path.name}") for picture in pictures],
                wirings=[(row, seed, f"{FIGURES}/{path.name}") for row, seed, path in wirings],
                problems=problems,
                layers=layers,
            )
        )
    return views, figures


def _lines(part: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in line.items()} for line in part.to_dict("records")]


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
        seed, folder, edges = int(mine["seed"].iloc[0]), str(mine["folder"].iloc[0]), mine["edges"].iloc[0]
        if pd.notna(edges) and edges == 0:  # a network without a graph
            continue
        source = results_dir / folder / WIRING_FILE
        if not source.is_file():  # a trial from elsewhere, copied without it
            continue
        target = out / FIGURES / f"{slug(row.table, row.row, row.fingerprint)}-wiring.png"
        try:
            path = wiring_picture(source, target, title=f"{plain(row.label, 60)}, seed {seed}")
        except ValueError as error:
            problems.append(f"no wiring picture of {row.label}, seed {seed}: {error}")
            continue
        drawn.append((row, seed, path))
    return drawn, problems
