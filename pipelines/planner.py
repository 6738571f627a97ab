"""What is to be done: rows times seeds at a scale, each held against the store. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnw_core.config import fingerprint, flatten
from dnw_core.errors import DataMissing
from dnw_core.recipe import Recipe
from dnw_core.record import TrialRecord
from pipelines.estimate import Estimator
from pipelines.layout import check_name
from pipelines.modes import Mode, State, should_run
from pipelines.overrides import Override, apply_overrides, variant_name
from pipelines.placement import Placement
from pipelines.spec import TrialSpec
from pipelines.store import Store, TrialState
from tune_configs import Row, Scale, Table

_MOST_CHANGES = 3


@dataclass(frozen=True)
class PlannedRow:
    """A row at a scale, or a variant of it."""

    table: Table
    row: Row
    id: str  # the row's own, or the variant's
    recipe: Recipe
    fingerprint: str
    seeds: tuple[int, ...]
    overrides: tuple[Override, ...] = ()

    @property
    def name(self) -> str:
        """``table/row``."""
        return f"{self.table.id}/{self.id}"


@dataclass(frozen=True)
class PlannedTrial:
    """A trial, what the store knows of it, and whether it will be trained."""

    spec: TrialSpec
    state: State
    detail: str  # why, where the state alone does not say it
    epochs_left: int
    estimated_seconds: float
    runs: bool
    stored: TrialState


@dataclass(frozen=True)
class Plan:
    """The rows and trials of a command."""

    scale: Scale
    mode: Mode
    rows: tuple[PlannedRow, ...]
    trials: tuple[PlannedTrial, ...]
    measured: bool  # every estimate rests on finished trials

    def to_run(self) -> list[PlannedTrial]:
        """Return the trials that will be trained."""
        return [trial for trial in self.trials if trial.runs]

    def of(self, row: PlannedRow) -> list[PlannedTrial]:
        """Return a row's trials."""
        return [trial for trial in self.trials if (trial.spec.table, trial.spec.row) == (row.table.id, row.id)]


def plan_rows(
    tables: dict[str, Table],
    rows: Sequence[Row],
    scale: Scale,
    *,
    seeds: tuple[int, ...] | None = None,
    overrides: tuple[Override, ...] = (),
) -> list[PlannedRow]:
    """Return the rows at a scale, with ``--set`` applied.

    Args:
        tables: all tables.
        rows: the rows that are meant.
        scale: the scale.
        seeds: the seeds of every row; the table's own number for the scale by default.
        overrides: settings to change.

    Raises:
        UserError: if a setting does not fit a row.
    """
    planned = []
    for row in rows:
        table = tables[row.table]
        recipe = apply_overrides(row.recipe_at(scale), overrides) if overrides else row.recipe_at(scale)
        row_id = variant_name(row.id, recipe, overrides)
        check_name(row_id, "row")
        own_seeds = seeds if seeds is not None else tuple(range(table.default_seeds.at(scale)))
        planned.append(PlannedRow(table, row, row_id, recipe, fingerprint(recipe), own_seeds, overrides))
    return planned


def make_plan(
    rows: Sequence[PlannedRow],
    scale: Scale,
    store: Store,
    placement: Placement,
    *,
    mode: Mode = "cached",
    check_data: bool = True,
) -> Plan:
    """Hold the rows against the store.

    Args:
        rows: what is meant.
        scale: the scale.
        store: the results so far.
        placement: where and how trials run.
        mode: what is trained again.
        check_data: look for the data sets on this machine (not for a cluster, whose nodes are asked later).

    Raises:
        UserError: if the store holds a record of a newer version.
    """
    history = [stored.record for stored in store.records()]
    estimator = Estimator.from_records(history)
    specs = [(row, _spec(row, seed, scale, store.results_dir, placement)) for row in rows for seed in row.seeds]
    states = store.states([spec for _, spec in specs])
    drifts = {row.name: _drift(row, scale, history) for row in rows}
    judged = [_judge(spec, stored, drifts[row.name]) for (row, spec), stored in zip(specs, states, strict=True)]
    wanted = [spec for (_, spec), (state, _) in zip(specs, judged, strict=True) if should_run(mode, state)]
    missing = _missing_data(wanted) if check_data else {}
    trials = []
    for (_, spec), stored, (state, detail) in zip(specs, states, judged, strict=True):
        runs = should_run(mode, state)
        no_data = missing.get(spec.recipe.data.dataset)
        if runs and no_data is not None:
            state, detail = "data missing", no_data
        epochs_left = spec.recipe.epochs - (0 if mode == "force" else stored.epochs_done) if runs else 0
        seconds = estimator.seconds(spec.recipe, epochs_left, spec.execution.device)
        trials.append(PlannedTrial(spec, state, detail, epochs_left, seconds, runs, stored))
    measured = all(estimator.knows(trial.spec.recipe, trial.spec.execution.device) for trial in trials if trial.runs)
    return Plan(scale, mode, tuple(rows), tuple(trials), measured)


def describe_changes(old: Recipe, new: Recipe) -> list[str]:
    """Return ``setting old → new`` for every setting that differs."""
    before, after = flatten(old), flatten(new)
    names = sorted(set(before) | set(after))
    nothing = "–"
    return [
        f"{name} {before.get(name, nothing)} → {after.get(name, nothing)}"
        for name in names
        if before.get(name, nothing) != after.get(name, nothing)
    ]


def _spec(row: PlannedRow, seed: int, scale: Scale, results_dir: Path, placement: Placement) -> TrialSpec:
    asked = row.row.resources_at(scale)
    return TrialSpec(
        table=row.table.id,
        row=row.id,
        seed=seed,
        scale=scale,
        fingerprint=row.fingerprint,
        recipe=row.recipe,
        execution=placement.execution(asked),
        resources=placement.resources(asked),
        results_dir=results_dir,
    )


def _judge(spec: TrialSpec, stored: TrialState, drift: str | None) -> tuple[State, str]:
    damaged = f"the finished folder is not believed: {stored.damaged}" if stored.damaged else ""
    if stored.kind == "failed":
        return "failed", stored.reason or "no reason recorded"
    if stored.kind == "partial":
        return "partial", damaged or f"epoch {stored.epochs_done} of {spec.recipe.epochs}"
    if stored.kind == "new" and drift is not None and not damaged:
        return "drifted", drift
    return stored.kind, damaged


def _drift(row: PlannedRow, scale: Scale, history: Sequence[TrialRecord]) -> str | None:
    """Return how an older result of the row at this scale differs in its recipe; None if there is none."""
    older = {
        record.fingerprint: record
        for record in history
        if (record.table, record.row, record.scale) == (row.table.id, row.id, scale)
        and record.fingerprint != row.fingerprint
    }
    if not older:
        return None
    described = {name: describe_changes(record.recipe, row.recipe) for name, record in older.items()}
    closest = min(described, key=lambda name: (len(described[name]), name))
    changes = described[closest]
    more = f" and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
    return f"since {closest}: {'; '.join(changes[:_MOST_CHANGES])}{more}"


def _missing_data(specs: Sequence[TrialSpec]) -> dict[str, str]:
    """Return, for each data set that is not there, why it is not believed to be."""
    from dnw_core.data import check_dataset

    missing: dict[str, str] = {}
    for name, spec in {spec.recipe.data.dataset: spec for spec in specs}.items():
        try:
            check_dataset(name, spec.execution)
        except DataMissing as error:
            missing[name] = str(error)
    return missing
