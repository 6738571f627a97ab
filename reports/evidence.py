"""Tables for the pages on the trials that come with the repository: one of the trials, one of the verdicts."""

from __future__ import annotations

import pandas as pd

from reports.markdown import published
from reports.rows import Rows, parse_rows
from reports.summary import lines_of, summarise
from reports.text import DASH, code, duration, escape, grid, number, plus_minus, signed
from reports.verdicts import ASSUMPTION, PAPER_SCALE


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
    return grid(header, lines)


def verdict_table(rows: Rows, trials: pd.DataFrame) -> str:
    """Return one line per row: ours, the published number, their difference and the verdict.

    Args:
        rows: as given to ``build_report``.
        trials: ``read_trials``'s frame.

    Raises:
        ValueError: if a row is malformed or given twice.
    """
    summary = lines_of(summarise(rows, trials, PAPER_SCALE))
    lines = [
        [
            f"{escape(row.label)} {code(f'{row.table}/{row.row}')}",
            f"{plus_minus(line['mean'], line['std'])} ({int(line['n'])})",
            published(line),
            signed(line["difference"]),
            f"**{escape(line['verdict'])}**",
        ]
        for row, line in zip(parse_rows(rows, PAPER_SCALE), summary, strict=True)
    ]
    header = ["Row", "Ours, % (seeds)", "Published, % (seeds)", "Difference", "Verdict"]
    return f"{grid(header, lines)}\n\n{ASSUMPTION}"
