"""One line per row: our mean and spread, the published number, the difference, the verdict, the cost."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports.rows import ReportRow, Rows, parse_rows
from reports.statistics import ASSUMED_RUNS, Sample, compare, describe, published_sample, t_interval
from reports.trials import frame
from reports.verdicts import Progress, decide

# accuracies in percent, differences and intervals in percentage points; counts are means over seeds
SUMMARY_COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "label": "string",
    "extra": "boolean",
    "variant": "boolean",
    "corrects": "string",
    "scale": "string",
    "fingerprint": "string",
    "n": "Int64",
    "planned": "Int64",
    "mean": "float64",
    "std": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "top5_mean": "float64",  # of the trials that have a top-5 accuracy; percent, last epoch, never judged
    "top5_std": "float64",
    "published_mean": "float64",
    "published_std": "float64",
    "published_n": "Int64",
    "published_n_assumed": "boolean",
    "published_top5": "float64",
    "published_recipe": "string",  # "other": trained with another recipe than ours
    "published_parameters": "string",  # as printed
    "published_macs": "string",
    "quoted_mean": "float64",  # as printed in the paper that the published number was quoted from
    "quoted_origin": "string",
    "difference": "float64",  # only where the row is comparable
    "p_equal": "float64",
    "p_different": "float64",
    "verdict": "string",
    "verdict_kind": "string",
    "best_mean": "float64",
    "best_std": "float64",
    "live_parameters": "float64",
    "parameters": "float64",
    "live_macs": "float64",
    "macs": "float64",
    "dense_macs": "float64",
    "live_edges": "float64",
    "edges": "float64",
    "applications": "float64",
    "epochs": "Int64",
    "seconds": "float64",  # mean a finished trial
    "done": "Int64",
    "failed": "Int64",
    "running": "Int64",
    "unreadable": "Int64",
    "missing": "Int64",
    "reason": "string",  # of the first failure, or why the row cannot be run
}
_COSTS = ("live_parameters", "parameters", "live_macs", "macs", "dense_macs", "live_edges", "edges", "applications")


def summarise(rows: Rows, trials: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Return one line per row (``SUMMARY_COLUMNS``), in the rows' order. Only planned seeds count.

    Args:
        rows: what the report shows, as given to ``build_report``.
        trials: ``read_trials`` of the same rows.
        scale: the scale of every row that does not name its own.

    Raises:
        ValueError: if a row is malformed or given twice.
    """
    return frame([_summarise(row, trials) for row in parse_rows(rows, scale)], SUMMARY_COLUMNS)


def lines_of(part: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's lines, each by its columns' names."""
    return [{str(name): value for name, value in line.items()} for line in part.to_dict("records")]


def trials_of(row: ReportRow, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the row's lines of the trials frame."""
    table, name, mark = row.key
    return trials[(trials["table"] == table) & (trials["row"] == name) & (trials["fingerprint"] == mark)]


def _summarise(row: ReportRow, trials: pd.DataFrame) -> dict[str, Any]:
    mine = trials_of(row, trials)
    mine = mine[mine["seed"].isin(row.seeds)].sort_values("seed")
    done = mine[mine["status"] == "done"]
    counts = {status: int((mine["status"] == status).sum()) for status in ("done", "failed", "running", "unreadable")}
    progress = Progress(planned=len(row.seeds), **counts)

    ours = describe(_numbers(done["accuracy"]))
    best = describe(_numbers(done["best_accuracy"]))
    top5 = describe(_numbers(done["top5_accuracy"]))
    published = _published(row)
    interval = t_interval(ours)
    complete = progress.done == progress.planned
    comparison = compare(ours, published) if ours and published and row.comparable and complete else None
    verdict = decide(
        progress,
        comparison,
        comparable=row.comparable,
        scale=row.scale,
        other_recipe=row.other_recipe and not row.variant,
        data_missing=row.data_missing is not None,
        not_reproducible=row.not_reproducible,
    )

    return {
        "table": row.table,
        "row": row.row,
        "label": row.label,
        "extra": row.extra,
        "variant": row.variant,
        "corrects": row.corrects,
        "scale": row.scale,
        "fingerprint": row.fingerprint,
        "n": len(done),
        "planned": len(row.seeds),
        "mean": ours and ours.mean,
        "std": ours and ours.std,
        "ci_low": interval and interval[0],
        "ci_high": interval and interval[1],
        "top5_mean": top5 and top5.mean,
        "top5_std": top5 and top5.std,
        "published_mean": published and published.mean,
        "published_std": published and published.std,
        "published_n": published.n if published and published.std is not None else row.published_n,
        "published_n_assumed": bool(published and published.std is not None and row.n_assumed),
        "published_top5": row.published_top5 if published else None,
        "published_recipe": row.published_recipe if published else None,
        "published_parameters": row.published_parameters,
        "published_macs": row.published_macs,
        "quoted_mean": row.quoted_mean,
        "quoted_origin": row.quoted_origin,
        "difference": ours.mean - published.mean if ours and published and row.comparable else None,
        "p_equal": comparison and comparison.p_equal,
        "p_different": comparison and comparison.p_different,
        "verdict": verdict.text,
        "verdict_kind": str(verdict.kind),
        "best_mean": best and best.mean,
        "best_std": best and best.std,
        **{name: _mean(done[name]) for name in _COSTS},
        "epochs": row.epochs if row.epochs is not None else _largest(done["epochs"]),
        "seconds": _mean(done["seconds"]),
        **counts,
        "missing": progress.planned - sum(counts.values()),
        "reason": _reason(row, mine, progress),
    }


def _published(row: ReportRow) -> Sample | None:
    """Return the published number; a variant has none, for it is never compared."""
    if row.published_mean is None or row.variant:
        return None
    runs = row.published_n or ASSUMED_RUNS
    return published_sample(row.published_mean, row.published_std, row.published_spread_is, runs)


def _numbers(series: pd.Series[Any]) -> list[float]:
    return [float(value) for value in series if not pd.isna(value)]


def _mean(series: pd.Series[Any]) -> float | None:
    numbers = _numbers(series)
    return math.fsum(numbers) / len(numbers) if numbers else None


def _largest(series: pd.Series[Any]) -> int | None:
    numbers = _numbers(series)
    return int(max(numbers)) if numbers else None


def _reason(row: ReportRow, mine: pd.DataFrame, progress: Progress) -> str | None:
    for status in ("failed", "unreadable"):
        for trial in mine[mine["status"] == status].to_dict("records"):
            return f"seed {trial['seed']}: {trial['reason']}"
    return row.held_up if progress.done < progress.planned else None
