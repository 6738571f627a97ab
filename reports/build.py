"""``build_report``: the store and the planned rows in; Markdown, data files and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from dnw_core.files import refuse_link, write_text
from dnw_core.record import WIRING_FILE
from reports.epochs import with_wiring
from reports.export import RESULT_COLUMNS, write_frame
from reports.figures.wiring import wiring_picture
from reports.markdown import TableView, render
from reports.pictures import table_pictures
from reports.rows import ReportRow, Rows, parse_rows
from reports.sections.costs import COST_COLUMNS, Costs
from reports.sections.layers import LAYER_COLUMNS, read_layers
from reports.sections.leftovers import Leftovers, write_leftovers
from reports.sections.wiring_end import wiring_end
from reports.summary import lines_of, summarise, trials_of
from reports.text import plain, slug
from reports.trials import TRIAL_COLUMNS, Histories, frame, read_history, read_trials

FIGURES = "figures"


@dataclass(frozen=True)
class ReportPaths:
    """The page and its figures. The data files are beside the page, under the names that its last lines give."""

    markdown: Path
    figures: tuple[Path, ...]


def build_report(
    results_dir: Path,
    rows: Rows,
    *,
    scale: str,
    command: str | None = None,
    costs: Costs | None = None,
    leftovers: Leftovers = (),
    generated_at: str | None = None,
) -> ReportPaths:
    """Write ``results.md``, its data (``results.*``, ``trials.*``, ...) and ``figures/`` into the results folder.

    Args:
        results_dir: the results folder.
        rows: one entry per row to be shown, in order (fields: ``reports.rows.ReportRow``).
        scale: the scale of every row that does not name its own.
        command: the command that made this report.
        costs: what each row's network costs (fields: ``reports.sections.costs.COST_COLUMNS``).
        leftovers: finished trials of no row, or of another recipe (fields: ``reports.sections.leftovers.Leftovers``).
        generated_at: the date to print; now, in UTC, by default.

    Raises:
        ValueError: if a row is malformed or given twice. What is on disk never raises.
        OSError: if the results folder cannot be written to, or its figures would be written elsewhere.
    """
    parsed = parse_rows(rows, scale)
    refuse_link(results_dir / FIGURES)

    histories: Histories = {}
    trials = read_trials(results_dir, rows, histories)
    history = with_wiring(read_history(results_dir, trials, histories), trials)
    histories.clear()
    summary = summarise(rows, trials, scale)
    counted = frame([dict(line) for line in costs or ()], COST_COLUMNS)
    layers = read_layers(results_dir, parsed, trials)
    views, figures = _views(results_dir, parsed, trials, history, summary, layers, counted)
    text = render(
        views,
        trials,
        generated_at=generated_at or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=command,
        leftovers=leftovers,
    )
    write_frame(summary, RESULT_COLUMNS, results_dir / "results")
    write_frame(trials, TRIAL_COLUMNS, results_dir / "trials")
    if len(counted):
        write_frame(counted, COST_COLUMNS, results_dir / "costs")
    if len(layers):
        write_frame(layers, LAYER_COLUMNS, results_dir / "layers")
    write_leftovers(leftovers, results_dir)
    markdown = results_dir / "results.md"
    write_text(markdown, text)  # last: what it points to is there by now
    return ReportPaths(markdown, tuple(figures))


def _views(
    results_dir: Path,
    rows: Sequence[ReportRow],
    trials: pd.DataFrame,
    history: pd.DataFrame,
    summary: pd.DataFrame,
    layers: pd.DataFrame,
    costs: pd.DataFrame,
) -> tuple[list[TableView], list[Path]]:
    views, figures = [], []
    for table in dict.fromkeys(row.table for row in rows):
        chosen = [index for index, row in enumerate(rows) if row.table == table]
        members = [rows[index] for index in chosen]
        part = summary.iloc[chosen]
        pictures = table_pictures(members, part, trials, history, layers, results_dir / FIGURES)
        pictured = [row for row in members if trials_of(row, layers).empty]
        wirings, problems = _draw_wirings(results_dir, pictured, trials)
        figures += [*(picture.path for picture in pictures), *(path for _, _, path in wirings)]
        views.append(
            TableView(
                name=table,
                title=members[0].table_title,
                rows=members,
                lines=lines_of(part),
                ends=[wiring_end(row, trials, history) for row in members],
                pictures=[(picture, f"{FIGURES}/{picture.path.name}") for picture in pictures],
                wirings=[(row, seed, f"{FIGURES}/{path.name}") for row, seed, path in wirings],
                problems=problems,
                costs=lines_of(costs[costs["table"] == table]),
                layers=layers,
            )
        )
    return views, figures


def _draw_wirings(
    results_dir: Path, rows: Sequence[ReportRow], trials: pd.DataFrame
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
        target = results_dir / FIGURES / f"{slug(row.table, row.row, row.fingerprint)}-wiring.png"
        try:
            path = wiring_picture(source, target, title=f"{plain(row.label, 60)}, seed {seed}")
        except ValueError as error:
            problems.append(f"no wiring picture of {row.label}, seed {seed}: {error}")
            continue
        drawn.append((row, seed, path))
    return drawn, problems
