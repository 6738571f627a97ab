"""The rows as plain dicts for the report and the tracker, planned and published values side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dnw_core.config import fingerprint
from dnw_core.errors import UserError
from pipelines.plan.planner import Plan, PlannedRow
from pipelines.plan.rows import apply_overrides, parse_overrides, split_variant
from pipelines.plan.trial_states import PlanState
from pipelines.spec import RowKey
from pipelines.store import Store
from tune_configs import Published, Row, Scale, Table

CommandOf = Callable[[PlannedRow, Sequence[int]], str]
HeldUp = dict[str, dict[RowKey, str]]  # field of the report's row -> row -> why it cannot run now

_HELD_UP: dict[str, PlanState] = {"data_missing": "data missing", "blocked": "blocked"}


def report_rows(plan: Plan, tables: dict[str, Table], store: Store, command: CommandOf) -> list[dict[str, Any]]:
    """Return the rows of a report: the planned ones, and all others of their tables that have results.

    A row's seeds are the planned ones and those in the store: asking for seeds 3 and 4 after 0 to 2 reports five.

    Args:
        plan: the plan.
        tables: all tables.
        store: the results.
        command: returns the command that reproduces a row.
    """
    asked = {row.table.id for row in plan.rows} | {row.table for row in plan.not_reproducible}
    held_up = {name: _reasons(plan, state) for name, state in _HELD_UP.items()}
    found = rows_in_store({name: tables[name] for name in tables if name in asked}, store, plan.scale)
    return _rows([*plan.rows, *found], tables, plan.scale, command, held_up, plan.not_reproducible)


def _reasons(plan: Plan, state: PlanState) -> dict[RowKey, str]:
    """Return, for each row with trials in this state, why they cannot run now."""
    reasons: dict[RowKey, dict[str, None]] = {}
    for trial in plan.trials:
        if trial.state == state:
            reasons.setdefault(trial.spec.row_key, {})[trial.detail] = None
    return {row: "; ".join(details) for row, details in reasons.items()}


def rows_in_store(tables: dict[str, Table], store: Store, scale: Scale) -> list[PlannedRow]:
    """Return every row and variant with results at the scale under its present fingerprint, and their seeds."""
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for stored in store.records():
        record = stored.record
        seeds.setdefault((record.table, record.row, record.fingerprint), set()).add(record.seed)
    rows = []
    for (table, row_id, found), present in seeds.items():
        planned = present_row(tables, table, row_id, scale)
        if planned is not None and planned.fingerprint == found:
            rows.append(PlannedRow(planned.table, planned.row, row_id, planned.recipe, found, tuple(sorted(present))))
    return rows


def all_rows(tables: dict[str, Table], store: Store, scale: Scale, command: CommandOf) -> list[dict[str, Any]]:
    """Return ``report_rows`` for everything that has results at the scale (to rebuild the tracker)."""
    return _rows(rows_in_store(tables, store, scale), tables, scale, command, {}, ())


def _rows(
    rows: Iterable[PlannedRow],
    tables: dict[str, Table],
    scale: Scale,
    command: CommandOf,
    held_up: HeldUp,
    not_reproducible: Iterable[Row],
) -> list[dict[str, Any]]:
    merged: dict[RowKey, PlannedRow] = {}
    seeds: dict[RowKey, set[int]] = {}
    for row in rows:
        merged.setdefault(row.key, row)
        seeds.setdefault(row.key, set()).update(row.all_seeds)
    place = {(table.id, name): (i, j) for i, table in enumerate(tables.values()) for j, name in enumerate(table.rows)}
    entries = {
        (*place[key[0], row.row.id], row.id != row.row.id, row.id): _row(
            row, tuple(sorted(seeds[key])), scale, command, held_up
        )
        for key, row in merged.items()
    }
    for lost in not_reproducible:
        entries[*place[lost.table, lost.id], False, lost.id] = _unreproducible_row(lost, tables[lost.table], scale)
    return [entries[key] for key in sorted(entries)]


def _row(row: PlannedRow, seeds: tuple[int, ...], scale: Scale, command: CommandOf, held_up: HeldUp) -> dict[str, Any]:
    variant = row.id != row.row.id
    settings = ", ".join(split_variant(row.id)[1])
    return {
        "table": row.table.id,
        "table_title": row.table.title,
        "row": row.id,
        "label": f"{row.row.label} with {settings}" if variant else row.row.label,
        "extra": row.row.extra,
        "variant": variant,
        "corrects": row.row.corrects,
        **_published(None if variant else row.row.published),
        "notes": list(row.row.notes),
        "fingerprint": row.fingerprint,
        "seeds": seeds,
        "epochs": row.recipe.epochs,
        "scale": scale,
        "command": command(row, seeds),
        **{name: reasons.get(row.key) for name, reasons in held_up.items()},
    }


def _unreproducible_row(row: Row, table: Table, scale: Scale) -> dict[str, Any]:
    """Return a row that is not reproducible: without a recipe it has no fingerprint, seeds or command."""
    return {
        "table": table.id,
        "table_title": table.title,
        "row": row.id,
        "label": row.label,
        "extra": row.extra,
        "variant": False,
        **_published(row.published),
        "notes": list(row.notes),
        "fingerprint": "",
        "seeds": (),
        "scale": scale,
        "not_reproducible": row.not_reproducible,
    }


def _published(published: Published | None) -> dict[str, Any]:
    quoted = published.quoted if published else None
    return {
        "published_mean": published.mean if published else None,
        "published_std": published.spread if published else None,
        "published_n": published.n if published else None,
        "published_n_is": published.n_is if published else None,
        "published_top5": published.top5 if published else None,
        "published_origin": published.origin if published else None,
        "published_recipe": published.recipe if published else None,
        "published_spread_is": published.spread_is if published else None,
        "published_parameters": published.parameters if published else None,
        "published_macs": published.macs if published else None,
        "quoted_mean": quoted.mean if quoted else None,
        "quoted_origin": quoted.origin if quoted else None,
    }


def present_row(tables: dict[str, Table], table_id: str, row_id: str, scale: Scale) -> PlannedRow | None:
    """Return the row or variant as the tables define it today; None if they no longer do."""
    base, settings = split_variant(row_id)
    table = tables.get(table_id)
    row = table.rows.get(base) if table is not None else None
    if table is None or row is None or row.not_reproducible is not None:
        return None
    recipe = row.recipe_at(scale)
    if settings:
        try:
            recipe = apply_overrides(recipe, parse_overrides(settings))
        except UserError:  # the setting no longer exists
            return None
    return PlannedRow(table, row, row_id, recipe, fingerprint(recipe), ())
