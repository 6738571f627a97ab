"""How many weights each layer keeps, for networks with too many graphs to draw each. One line per layer and seed.

A layer that is not listed has no wiring rule: it is dense.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dnw_core.record import WIRING_FILE
from reports.reading.wiring_file import MOST_PICTURED, read_counts
from reports.rows import ReportRow
from reports.summary import trials_of
from reports.text import code, count_of, grid, share
from reports.trials import IDENTITY, frame

log = logging.getLogger(__name__)

LAYER_COLUMNS: dict[str, str] = {
    "table": "string",
    "row": "string",
    "fingerprint": "string",
    "seed": "Int64",
    "place": "Int64",  # in the network's order, from 0
    "layer": "string",
    "receivers": "Int64",  # of the weight, seen as a matrix
    "slots_each": "Int64",
    "slots": "Int64",
    "kept": "Int64",
    "density": "float64",  # fraction of the slots that is kept
}


def read_layers(results_dir: Path, rows: Sequence[ReportRow], trials: pd.DataFrame) -> pd.DataFrame:
    """Return the layers of the rows' finished trials (``LAYER_COLUMNS``).

    Trials of networks with few graphs are left out, and those without a wiring file. A wiring that cannot be read is
    left out with a line in the log.

    Args:
        results_dir: the results folder.
        rows: the rows; only planned seeds are read.
        trials: ``read_trials``'s frame.
    """
    records: list[dict[str, Any]] = []
    for row in rows:
        mine = trials_of(row, trials)
        mine = mine[(mine["status"] == "done") & mine["seed"].isin(row.seeds)]
        for trial in mine.sort_values("seed")[[*IDENTITY, "folder"]].to_dict("records"):
            source = results_dir / trial["folder"] / WIRING_FILE
            if not source.is_file():
                continue
            try:
                counts = read_counts(source)
            except ValueError as error:
                log.warning("the layers of %s are not shown: %s", trial["folder"], error)
                continue
            if len(counts) <= MOST_PICTURED:
                continue
            identity = {name: trial[name] for name in IDENTITY}
            for place, layer in enumerate(counts):
                sizes = {"receivers": layer.shape[0], "slots_each": layer.shape[1], "slots": layer.slots}
                found = {"place": place, "layer": layer.name, "kept": layer.kept, "density": layer.kept / layer.slots}
                records.append(identity | sizes | found)
    return frame(records, LAYER_COLUMNS)


def mean_layers(row: ReportRow, layers: pd.DataFrame) -> pd.DataFrame:
    """Return the row's layers in order, indexed by name: their sizes, ``kept`` and ``density`` as means over seeds."""
    mine = trials_of(row, layers)
    order = ["place", "receivers", "slots_each", "slots", "kept", "density"]
    return mine.groupby("layer", sort=False)[order].mean().sort_values("place")


def layer_section(row: ReportRow, layers: pd.DataFrame) -> list[str]:
    """Return the row's layers as a folded-up table, or one sentence if all have one density; nothing if unknown."""
    means = mean_layers(row, layers)
    if means.empty:
        return []
    kept, slots = float(means["kept"].sum()), float(means["slots"].sum())
    seeds = trials_of(row, layers)["seed"].nunique()
    title = f"{len(means)} layers with a wiring rule, mean of {seeds} seed{'s' if seeds > 1 else ''}"
    if bool((abs(means["kept"] - kept / slots * means["slots"]) < 1).all()):  # but for the rounding to whole weights
        alike = f"each keeps {share(100 * kept / slots)} % of its weights, {count_of(kept)} in total"
        return ["", f"{title}: {alike}; other layers are dense."]
    lines = [
        [
            code(name),
            f"{layer['receivers']:,.0f} x {layer['slots_each']:,.0f}",
            count_of(layer["kept"]),
            share(100 * layer["density"]),
        ]
        for name, layer in zip(means.index, means.to_dict("records"), strict=True)
    ]
    total = ["**all**", count_of(slots), f"**{count_of(kept)}**", f"**{share(100 * kept / slots)}**"]
    header = ["Layer", "Receivers x slots of each", "Kept", "Density, %"]
    table = grid(header, [*lines, total], header[1:])
    return ["", f"<details>\n<summary>{title}; other layers are dense</summary>\n\n{table}\n\n</details>"]
