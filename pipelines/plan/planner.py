"""The plan of a command: rows times seeds at a scale, compared with the store. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dnw_core.config import Recipe, fingerprint
from dnw_core.errors import DataMissingError
from pipelines.plan.estimate import Estimator
from pipelines.plan.placement import Placement
from pipelines.plan.rows import Override, apply_overrides, parent_overrides, variant_name
from pipelines.plan.trial_states import Decision, Mode, PlanState, StoreQueries, decide
from pipelines.spec import ParentTrial, RowKey, TrialSpec
from pipelines.store import Store, TrialState, check_name
from tune_configs import Row, Scale, Table


@dataclass(frozen=True)
class PlannedRow:
    """A row at a scale, or a variant of it."""

    table: Table
    row: Row
    id: str  # the row's or the variant's
    recipe: Recipe
    fingerprint: str
    seeds: tuple[int, ...]
    overrides: tuple[Override, ...] = ()
    parent: PlannedRow | None = None  # its trials of the same seeds are the starts of this row's
    dependency_seeds: tuple[int, ...] = ()  # further seeds, on which trials of other rows depend

    @property
    def name(self) -> str:
        """``table/row``."""
        return f"{self.table.id}/{self.id}"

    @property
    def key(self) -> RowKey:
        """Table and row."""
        return self.table.id, self.id

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that were asked for and those that other rows depend on."""
        return tuple(sorted({*self.seeds, *self.dependency_seeds}))


@dataclass(frozen=True)
class PlannedTrial:
    """A trial, its state in the store, and whether it will be trained."""

    spec: TrialSpec
    state: PlanState
    detail: str  # why, where the state alone does not say it
    epochs_left: int
    estimated_seconds: float
    will_run: bool
    stored: TrialState
    required_by: tuple[str, ...] = ()  # rows that depend on it, where nobody asked for it


@dataclass(frozen=True)
class Plan:
    """The rows and trials of a command; a row comes before the rows that depend on it."""

    scale: Scale
    mode: Mode
    rows: tuple[PlannedRow, ...]
    trials: tuple[PlannedTrial, ...]
    measured: bool  # every estimate rests on finished trials
    notes: tuple[str, ...] = ()  # about trials placed otherwise than their rows or the command ask
    not_reproducible: tuple[Row, ...] = ()  # rows that were asked for but have nothing to train

    def to_run(self) -> list[PlannedTrial]:
        """Return the trials that will be trained."""
        return [trial for trial in self.trials if trial.will_run]

    def without_data(self) -> list[PlannedTrial]:
        """Return the trials that would be trained if their data were there."""
        return [trial for trial in self.trials if trial.state == "data missing"]

    def trials_of(self, row: PlannedRow) -> list[PlannedTrial]:
        """Return a row's trials."""
        return [trial for trial in self.trials if trial.spec.row_key == row.key]


def plan_rows(
    tables: dict[str, Table],
    rows: Sequence[Row],
    scale: Scale,
    *,
    seeds: tuple[int, ...] | None = None,
    overrides: tuple[Override, ...] = (),
) -> list[PlannedRow]:
    """Return the rows at a scale, with ``--set`` applied, each with its parent.

    Args:
        tables: all tables.
        rows: the rows asked for; those that are not reproducible have no recipe and are left out.
        scale: the scale.
        seeds: the seeds of every row; the table's own number for the scale by default.
        overrides: settings to change, in a row and (except for its wiring) in its parent.

    Raises:
        UserError: if a setting does not fit a row.
    """
    return [
        plan_row(
            tables,
            row,
            scale,
            seeds if seeds is not None else tuple(range(tables[row.table].default_seeds.at(scale))),
            overrides,
        )
        for row in rows
        if row.not_reproducible is None
    ]


def plan_row(
    tables: dict[str, Table], row: Row, scale: Scale, seeds: tuple[int, ...], overrides: tuple[Override, ...] = ()
) -> PlannedRow:
    """Return one row at a scale; see ``plan_rows``."""
    recipe = apply_overrides(row.recipe_at(scale), overrides) if overrides else row.recipe_at(scale)
    row_id = variant_name(row.id, recipe, overrides)
    check_name(row_id, "row")
    parent = None
    if row.parent_row is not None:
        table, _, name = row.parent_row.rpartition("/")
        parent = plan_row(tables, tables[table].rows[name], scale, (), parent_overrides(overrides))
        assert parent.recipe == recipe.parent, f"{row.parent_row} is not what {row_id} was made for"
    return PlannedRow(tables[row.table], row, row_id, recipe, fingerprint(recipe), seeds, overrides, parent)


def make_plan(
    rows: Sequence[PlannedRow],
    scale: Scale,
    store: Store,
    placement: Placement,
    *,
    mode: Mode = "cached",
    check_data: bool = True,
    missing: Mapping[str, str] = MappingProxyType({}),
    not_reproducible: Sequence[Row] = (),
) -> Plan:
    """Compare the rows with the store. An unfinished parent joins the plan where one of its children will run.

    Args:
        rows: the rows asked for.
        scale: the scale.
        store: the results so far.
        placement: where and how trials run.
        mode: what is trained again.
        check_data: look for the data sets on this machine (not for a cluster, whose nodes are asked later).
        missing: data sets that are known to be missing, and why, where this machine is not searched.
        not_reproducible: rows asked for that have nothing to train.

    Raises:
        UserError: if the store holds a record of a newer version.
    """
    known = _with_parents(rows)

    def spec_of(key: RowKey, seed: int) -> TrialSpec:
        return _spec(known[key], seed, scale, store, placement)

    queries = StoreQueries(store, spec_of)
    asked = {row.key: known[row.key] for row in rows}
    queries.ask([(spec_of(row.key, seed), seed not in row.seeds) for row in asked.values() for seed in row.all_seeds])
    decisions = decide(queries, mode)
    estimator = Estimator.from_records(queries.history)
    lacking = _lacking(decisions, _missing_data if check_data else lambda _: missing)
    trials: dict[RowKey, dict[int, PlannedTrial]] = {}
    for one in decisions:
        spec = one.status.spec
        trials.setdefault(spec.row_key, {})[spec.seed] = _trial(one, mode, estimator, lacking)
    final = [_joined(row, trials[key], key in asked) for key, row in known.items() if key in trials]
    ordered = tuple(trial for row in final for _, trial in sorted(trials[row.key].items()))
    running = [trial.spec for trial in ordered if trial.will_run]
    measured = all(estimator.knows(spec.recipe, spec.execution) for spec in running)
    placed = [row for row in final if row.key in {spec.row_key for spec in running}]
    notes = tuple(note for row in placed if (note := _note(row, scale, placement)))
    return Plan(scale, mode, tuple(final), ordered, measured, notes, tuple(not_reproducible))


def _with_parents(rows: Sequence[PlannedRow]) -> dict[RowKey, PlannedRow]:
    """Return the rows and all that they depend on, each row after its parent and otherwise in the given order."""
    asked = {row.key: row for row in rows}
    found: dict[RowKey, PlannedRow] = {}

    def visit(row: PlannedRow) -> None:
        if row.parent is not None:
            visit(row.parent)
        found.setdefault(row.key, asked.get(row.key, row))

    for row in rows:
        visit(row)
    return found


def _joined(row: PlannedRow, trials: dict[int, PlannedTrial], asked: bool) -> PlannedRow:
    """Return the row with the seeds that it has in the plan."""
    own = row.seeds if asked else ()
    return replace(row, seeds=own, dependency_seeds=tuple(sorted(set(trials) - set(own))))


def _trial(one: Decision, mode: Mode, estimator: Estimator, lacking: dict[str, str]) -> PlannedTrial:
    status, state, detail, will_run = one.status, one.state, one.detail, one.will_run
    spec = status.spec
    if spec.trial_id in lacking:
        state, detail, will_run = "data missing", lacking[spec.trial_id], False
    afresh = mode == "force" and not status.is_dependency
    # trials without their data have epochs left, too: a plan may be made before the data are downloaded
    left = spec.recipe.epochs - (0 if afresh else status.stored.epochs_done) if one.will_run else 0
    seconds = estimator.seconds(spec.recipe, left, spec.execution)
    return PlannedTrial(spec, state, detail, left, seconds, will_run, status.stored, one.required_by)


def _note(row: PlannedRow, scale: Scale, placement: Placement) -> str | None:
    return placement.workers_of(row.name, row.row.resources_at(scale), row.recipe)[1]


def _spec(row: PlannedRow, seed: int, scale: Scale, store: Store, placement: Placement) -> TrialSpec:
    asked = row.row.resources_at(scale)
    parent = row.parent
    return TrialSpec(
        table=row.table.id,
        row=row.id,
        seed=seed,
        scale=scale,
        fingerprint=row.fingerprint,
        recipe=row.recipe,
        execution=placement.execution(row.name, asked, row.recipe),
        resources=placement.resources(row.name, asked, row.recipe),
        results_dir=store.results_dir,
        parent=ParentTrial(table=parent.table.id, row=parent.id, fingerprint=parent.fingerprint) if parent else None,
    )


def _lacking(
    decisions: Sequence[Decision], look_for: Callable[[Sequence[TrialSpec]], Mapping[str, str]]
) -> dict[str, str]:
    """Return the missing data set of each trial that cannot be trained without it, or whose parent cannot.

    Unfinished trials are checked in every mode: a report says what is missing although nothing is trained.
    """
    left = {
        one.status.spec.trial_id: one.status.spec
        for one in decisions
        if one.will_run or one.state in ("new", "partial", "drifted")
    }
    missing = look_for(list(left.values()))

    def find(trial_id: str | None) -> str | None:
        spec = left.get(trial_id or "")
        return None if spec is None else missing.get(spec.recipe.data.dataset) or find(spec.parent_id)

    return {trial_id: detail for trial_id in left if (detail := find(trial_id)) is not None}


def _missing_data(specs: Sequence[TrialSpec]) -> dict[str, str]:
    """Return the missing data sets, and why each counts as missing."""
    from dnw_core.data import check_dataset

    missing: dict[str, str] = {}
    for name, spec in {spec.recipe.data.dataset: spec for spec in specs}.items():
        try:
            check_dataset(name, spec.execution)
        except DataMissingError as error:
            missing[name] = str(error)
    return missing
