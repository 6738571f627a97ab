"""One line a row: its counts beside the printed ones, and whether they agree. Free of torch; plain dicts for reports.

Counts are compared where they are known before training. Where training decides which edges stay and which nodes die
(DNW), the printed numbers are those of the trained network: then only counts of finished trials are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from dnw_core.record import Cost
from pipelines.costs_agreement import compare_printed
from pipelines.costs_counts import Count, RowCounts
from pipelines.store import Store
from tune_configs import Row

AFTER_TRAINING = "only after training"

Trained = Mapping[tuple[str, str, str], Sequence[Cost]]  # (table, row, fingerprint) -> costs of finished trials


@dataclass(frozen=True)
class CostLine:
    """A row's line: printed and counted parameters and multiply-adds. What is not known or not printed is None."""

    table: str
    row: str
    label: str
    extra: bool
    after_training: bool  # training decides the counts
    not_reproducible: str | None
    parameters_published: str | None = None
    parameters_nothing_dead: int | None = None
    parameters_at_start: int | None = None
    parameters_trained: float | None = None  # mean of the finished trials
    parameters_agreement: str | None = None
    macs_published: str | None = None
    macs_nothing_dead: int | None = None
    macs_at_start: int | None = None
    macs_trained: float | None = None
    macs_agreement: str | None = None
    trained_seeds: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the line as the report takes it."""
        return asdict(self)


def cost_lines(rows: Sequence[Row], counts: Mapping[str, RowCounts], trained: Trained | None = None) -> list[CostLine]:
    """Return a line for each row that was counted or cannot be reproduced.

    Args:
        rows: the rows.
        counts: by the fingerprint of the recipe at paper scale.
        trained: the costs of each row's finished trials at paper scale.
    """
    lines = []
    for row in rows:
        if row.not_reproducible is not None:
            lines.append(_line(row, None, ()))
            continue
        mark = row.fingerprint_at("paper")
        if mark in counts:
            lines.append(_line(row, counts[mark], (trained or {}).get((row.table, row.id, mark), ())))
    return lines


def trained_costs(store: Store) -> dict[tuple[str, str, str], list[Cost]]:
    """Return what the store's finished trials at paper scale cost."""
    found: dict[tuple[str, str, str], list[Cost]] = {}
    for stored in store.records():
        record = stored.record
        if record.scale == "paper" and record.status == "done" and record.cost is not None:
            found.setdefault((record.table, record.row, record.fingerprint), []).append(record.cost)
    return found


def _line(row: Row, counts: RowCounts | None, trained: Sequence[Cost]) -> CostLine:
    recipe = row.recipes.get("paper")
    moves = recipe is not None and recipe.wiring.trained_edges
    with_norms = recipe is not None and recipe.network.norms_counted
    parameters = [float(one.parameters_with_norm if with_norms else one.parameters) for one in trained]
    at_start = counts.at_start if counts is not None else None
    nothing_dead = counts.nothing_dead if counts is not None else None
    values: dict[str, Any] = {}
    for name, after in (("parameters", parameters), ("macs", [float(one.macs) for one in trained])):
        printed = getattr(row.published, name, None)
        start, mean = _of(at_start, name), fmean(after) if after else None
        values |= {
            f"{name}_published": printed,
            f"{name}_nothing_dead": _of(nothing_dead, name),
            f"{name}_at_start": start,
            f"{name}_trained": mean,
            f"{name}_agreement": _agreement(printed, mean if moves else start, moves) if counts else None,
        }
    return CostLine(
        table=row.table,
        row=row.id,
        label=row.label,
        extra=row.extra,
        after_training=moves,
        not_reproducible=row.not_reproducible,
        trained_seeds=len(trained),
        **values,
    )


def _of(count: Count | None, name: str) -> int | None:
    value: int | None = getattr(count, name, None)
    return value


def _agreement(printed: str | None, ours: float | None, moves: bool) -> str | None:
    if printed is None:
        return None
    if ours is None:
        return AFTER_TRAINING
    return str(compare_printed(printed, ours)) + (", trained" if moves else "")
