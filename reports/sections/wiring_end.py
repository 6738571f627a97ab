"""A row's wiring at the end of training: edges swapped in the last epoch, live edges, dead nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports.rows import ReportRow
from reports.summary import trials_of
from reports.text import count_of, share


@dataclass(frozen=True)
class WiringEnd:
    """Means over the planned seeds that are done; None where it is not known (no graph, an old history)."""

    swapped: float | None = None  # edges, in the last epoch
    live_edges: float | None = None
    edges: float | None = None
    dead_nodes: float | None = None
    nodes: float | None = None

    @property
    def text(self) -> str | None:
        """The numbers in one sentence; None if there are none."""
        parts = []
        if self.swapped is not None:
            parts.append(f"{count_of(self.swapped)} edges swapped in the last epoch")
        if self.live_edges is not None and self.edges:
            of_all = share(100 * self.live_edges / self.edges)
            parts.append(f"{count_of(self.live_edges)} of {count_of(self.edges)} edges live ({of_all} %)")
        if self.dead_nodes is not None:
            parts.append(f"{count_of(self.dead_nodes)} of {count_of(self.nodes)} nodes dead")
        return ", ".join(parts) or None


def wiring_end(row: ReportRow, trials: pd.DataFrame, history: pd.DataFrame) -> WiringEnd:
    """Return the row's wiring at the end of training.

    Args:
        row: the row.
        trials: ``read_trials``'s frame; the live edges and nodes at the end are those of ``trial.json``.
        history: ``with_wiring``'s frame; only it has the edges swapped in the last epoch.
    """
    done = trials_of(row, trials)
    done = done[(done["status"] == "done") & done["seed"].isin(row.seeds)]
    edged = done[done["edges"].gt(0).fillna(False)]
    live = edged[["live_edges", "edges"]].dropna()
    noded = edged[["nodes", "live_nodes"]].dropna()
    noded = noded[noded["live_nodes"] <= noded["nodes"]]
    epochs = trials_of(row, history).dropna(subset="epoch")
    last = epochs[epochs["seed"].isin(row.seeds)].sort_values("epoch").groupby("seed").tail(1)
    return WiringEnd(
        swapped=_mean(last["edges_swapped"].dropna().tolist()),
        live_edges=_mean(live["live_edges"].tolist()),
        edges=_mean(live["edges"].tolist()),
        dead_nodes=_mean((noded["nodes"] - noded["live_nodes"]).tolist()),
        nodes=_mean(noded["nodes"].tolist()),
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(sum(values) / len(values)) if values else None
