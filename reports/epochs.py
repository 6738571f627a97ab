"""The history by row and epoch: means over a row's planned seeds, and the wiring's columns.

Two columns are made here from what the history and ``trial.json`` hold: ``live_share`` (live edges in percent of the
kept ones) and ``dead_nodes``. A network without a graph has none of these numbers: they are missing, not zero.
"""

from __future__ import annotations

import pandas as pd

from reports.rows import ReportRow
from reports.summary import trials_of
from reports.trials import IDENTITY


def with_wiring(history: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the history with ``live_share`` (percent) and ``dead_nodes``, and nothing swapped where there is no edge.

    Args:
        history: ``read_history``'s frame.
        trials: ``read_trials``'s frame of the same rows.
    """
    nodes = trials.loc[trials["status"] == "done", [*IDENTITY, "nodes"]]
    made = history.merge(nodes, how="left", on=list(IDENTITY))
    has_graph = made["edges"] != 0  # true too where the history does not say
    share = 100 * made["live_edges"] / made["edges"]
    dead = made["nodes"].astype("float64") - made["live_nodes"]
    made["edges_swapped"] = made["edges_swapped"].where(has_graph)
    made["live_share"] = share.where(has_graph & share.between(0, 100))
    made["dead_nodes"] = dead.where(has_graph & (dead >= 0))
    return made.drop(columns="nodes")


def by_epoch(row: ReportRow, history: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``mean``, ``min`` and ``max`` of a column over the row's planned seeds per epoch trained (from 1)."""
    mine = trials_of(row, history)
    mine = mine[mine["seed"].isin(row.seeds)].dropna(subset=["epoch", column])
    grouped = mine.groupby("epoch")[column].agg(["mean", "min", "max"]).sort_index()
    grouped.index = grouped.index + 1
    return grouped
