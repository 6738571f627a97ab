"""Accuracy against the number of edges, as a frame: one line per row that has a finished trial and a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports.rows import ReportRow
from reports.statistics import describe
from reports.summary import trials_of
from reports.trials import frame

# accuracies at the last epoch, in percent
POINT_COLUMNS: dict[str, str] = {
    "place": "Int64",  # of the row among the rows given
    "label": "string",
    "network_kind": "string",
    "wiring_rule": "string",
    "edges": "float64",  # kept, mean over seeds
    "mean": "float64",
    "std": "float64",
    "n": "Int64",
    "published": "float64",  # mean; only where the row may be compared with it
    "line": "Int64",  # number of the line through it; missing for a point by itself
}


def edge_points(rows: Sequence[ReportRow], trials: pd.DataFrame) -> pd.DataFrame:
    """Return a line a row (``POINT_COLUMNS``), in the rows' order. Rows without edges or results are left out.

    Rows of one kind of network and one wiring rule share a line when they have two or more numbers of edges. Where
    several of them have the same number, the line goes through the first published one and the others are single
    points: a line that goes up and down at one place would show no trend.
    """
    records = [record for place, row in enumerate(rows) if (record := _point(place, row, trials)) is not None]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        if record["network_kind"] is not None and record["wiring_rule"] is not None:
            groups.setdefault((record["network_kind"], record["wiring_rule"]), []).append(record)
    number = 0
    for members in groups.values():
        members.sort(key=lambda record: (rows[record["place"]].variant, rows[record["place"]].extra, record["place"]))
        through: dict[float, dict[str, Any]] = {}
        for record in members:
            through.setdefault(record["edges"], record)
        if len(through) < 2:
            continue
        for record in through.values():
            record["line"] = number
        number += 1
    return frame(records, POINT_COLUMNS)


def _point(place: int, row: ReportRow, trials: pd.DataFrame) -> dict[str, Any] | None:
    done = trials_of(row, trials)
    done = done[(done["status"] == "done") & done["seed"].isin(row.seeds)]
    done = done[done["edges"].gt(0).fillna(False) & done["accuracy"].notna()]
    ours = describe(done["accuracy"].tolist())
    if ours is None:
        return None
    return {
        "place": place,
        "label": row.label,
        "network_kind": _only(done["network_kind"]),
        "wiring_rule": _only(done["wiring_rule"]),
        "edges": float(done["edges"].mean()),
        "mean": ours.mean,
        "std": ours.std,
        "n": ours.n,
        "published": row.published_mean if row.comparable else None,
    }


def _only(texts: pd.Series[Any]) -> str | None:
    """Return the text that all have; the seeds of one fingerprint share their recipe unless a file was altered."""
    found = texts.dropna().unique()
    return str(found[0]) if len(found) == 1 else None
