"""Tables for the pages on the trials that come with the repository: one of the trials, one of the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.rows import Rows, parse_rows
from reports.summary import summarise
from reports.text import code, duration, escape, number, plus_minus, signed
from reports.trials import read_trials
from reports.verdicts import PAPER_SCALE

DASH = "–"


def trial_table(trials: pd.DataFrame) -> str:
    """Return one line per finished trial: its scores, time, and where it comes from.

    Args:
        trials: ``read_trials``'s frame.
    """
    header = ["Row", "Seed", "Last epoch", "Best epoch (on the test set)", "Time", "Resumed", "Finished", "Commit"]
    lines = []
    for trial in trials[trials["status"] == "done"].to_dict("records"):
        known = pd.notna(trial["best_accuracy"])
        best = f"{number(trial['best_accuracy'], 2)} ({trial['best_epoch']})" if known else DASH
        lines.append(
            [
                code(f"{trial['table']}/{trial['row']}"),
                str(trial["seed"]),
                number(trial["accuracy"], 2),
                best,
                duration(trial["seconds"]),
                str(trial["resumed"]),
                escape(str(trial["finished_at"])[:10]),
                code(str(trial["commit"])[:10]),
            ]
        )
    return _grid(header, lines)


def verdict_table(results_dir: Any, rows: Rows) -> str:
    """Return one line per row: ours, the published number, their difference and the verdict.

    Args:
        results_dir: the results folder.
        rows: as given to ``build_report``.

    Raises:
        ValueError: if a row is malformed or given twice.
    """
    summary = summarise(rows, read_trials(results_dir, rows), PAPER_SCALE)
    lines = [
        [
            f"{escape(row.label)} {code(f'{row.table}/{row.row}')}",
            f"{plus_minus(line['mean'], line['std'])} ({int(line['n'])})",
            _published(line),
            signed(line["difference"]),
            f"**{escape(line['verdict'])}**",
        ]
        for row, line in zip(parse_rows(rows, PAPER_SCALE), summary.to_dict("records"), strict=True)
    ]
    return _grid(["Row", "Ours, % (seeds)", "Published, %", "Difference", "Verdict"], lines)


def _published(line: Mapping[Any, Any]) -> str:
    return DASH if pd.isna(line["published_mean"]) else plus_minus(line["published_mean"], line["published_std"])


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
