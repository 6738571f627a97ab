"""What is to be done: rows times seeds at a scale, each held against the store. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dnw_core.config import Recipe, fingerprint
from dnw_core.errors import DataMissingError
from pipelines.plan.estimate import Estimator
from pipelines.plan.placement import Placement
from pipelines.plan.rows import Override, apply_overrides, parent_overrides, variant_name
from pipelines.plan.trial_states import Decision, Mode, State, StoreQueries, settle
from pipelines.spec import ParentTrial, TrialSpec
from pipelines.store import Store, TrialState, check_name
from tune_configs import Row, Scale, Table


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
    parent: PlannedRow | None = None  # whose trials of the same seeds this one's start from (its seeds mean nothing)
    pulled: tuple[int, ...] = ()  # further seeds, of which trials of other rows start

    @property
    def name(self) -> str:
        """``table/row``."""
        return f"{self.table.id}/{self.id}"

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds that are meant and those that are pulled in."""
        return tuple(sorted({*self.seeds, *self.pulled}))


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
    pulled_by: tuple[str, ...] = ()  # rows whose trials start from it, where nobody else asked for it


@dataclass(frozen=True)
class Plan:
    """The rows and trials of a command; a row stands before the rows that need it."""

    scale: Scale
    mode: Mode
    rows: tuple[PlannedRow, ...]
    trials: tuple[PlannedTrial, ...]
    measured: bool  # every estimate rests on finished trials
    notes: tuple[str, ...] = ()  # about trials that are not run as their rows or the command ask
    not_reproducible: tuple[Row, ...] = ()  # rows that were meant but have nothing to train

    def to_run(self) -> list[PlannedTrial]:
        """Return the trials that will be trained."""
        return [trial for trial in self.trials if trial.runs]

    def without_data(self) -> list[PlannedTrial]:
        """Return the trials that would be trained if their data were there."""
        return [trial for trial in self.trials if trial.state == "data missing"]

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
    """Return the rows at a scale, with ``--set`` applied, each with its parent.

    Args:
        tables: all tables.
        rows: the rows that are meant; those that are not reproducible have no recipe and are left out.
        scale: the scale.
        seeds: the seeds of every row; the table's own number for the scale by default.
        overrides: settings to change, in a row and (but for its wiring) in its parent.

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
    if row.needs is not None:
        table, _, name = row.needs.rpartition("/")
        parent = plan_row(tables, tables[table].rows[name], scale, (), parent_overrides(overrides))
        assert parent.recipe == recipe.parent, f"{row.needs} is not what {row_id} was made for"
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
    """Hold the rows against the store. A parent that is not done joins the plan where one of its children runs.

    Args:
        rows: what is meant.
        scale: the scale.
        store: the results so far.
        placement: where and how trials run.
        mode: what is trained again.
        check_data: look for the data sets on this machine (not for a cluster, whose nodes are asked later).
        missing: data sets that are known to be nowhere, and why, where they are not looked for here.
        not_reproducible: rows that are meant and have nothing to train.

    Raises:
        UserError: if the store holds a record of a newer version.
    """
    known = _with_parents(rows)

    def spec_of(name: tuple[str, str], seed: int) -> TrialSpec:
        return _spec(known[name], seed, scale, store, placement)

    survey = StoreQueries(store, spec_of)
    asked = [known[name] for name in _names(rows)]
    survey.ask(
        [(spec_of((row.table.id, row.id), seed), seed not in row.seeds) for row in asked for seed in row.all_seeds]
    )
    settled = settle(survey, mode)
    estimator = Estimator.from_records(survey.history)
    lacking = _lacking(settled, _missing_data if check_data else lambda _: missing)
    trials: dict[tuple[str, str], dict[int, PlannedTrial]] = {}
    for one in settled:
        spec = one.judged.spec
        trials.setdefault((spec.table, spec.row), {})[spec.seed] = _trial(one, mode, estimator, lacking)
    final = [_joined(row, trials[name], name in _names(rows)) for name, row in known.items() if name in trials]
    ordered = tuple(trial for row in final for _, trial in sorted(trials[row.table.id, row.id].items()))
    measured = all(estimator.knows(trial.spec.recipe, trial.spec.execution) for trial in ordered if trial.runs)
    running = {(trial.spec.table, trial.spec.row) for trial in ordered if trial.runs}
    notes = tuple(note for row in final if (row.table.id, row.id) in running and (note := _note(row, scale, placement)))
    return Plan(scale, mode, tuple(final), ordered, measured, notes, tuple(not_reproducible))


def _names(rows: Sequence[PlannedRow]) -> list[tuple[str, str]]:
    return [(row.table.id, row.id) for row in rows]


def _with_parents(rows: Sequence[PlannedRow]) -> dict[tuple[str, str], PlannedRow]:
    """Return the rows and all that they need, each row after its parent and else in the given order."""
    meant = {(row.table.id, row.id): row for row in rows}
    found: dict[tuple[str, str], PlannedRow] = {}

    def visit(row: PlannedRow) -> None:
        if row.parent is not None:
            visit(row.parent)
        name = (row.table.id, row.id)
        found.setdefault(name, meant.get(name, row))

    for row in rows:
        visit(row)
    return found


def _joined(row: PlannedRow, trials: dict[int, PlannedTrial], meant: bool) -> PlannedRow:
    """Return the row with the seeds that it has in the plan."""
    own = row.seeds if meant else ()
    return replace(row, seeds=own, pulled=tuple(sorted(set(trials) - set(own))))


def _trial(one: Decision, mode: Mode, estimator: Estimator, lacking: dict[str, str]) -> PlannedTrial:
    judged, state, detail, runs = one.judged, one.state, one.detail, one.runs
    spec = judged.spec
    if spec.trial_id in lacking:
        state, detail, runs = "data missing", lacking[spec.trial_id], False
    afresh = mode == "force" and not judged.pulled
    # what is left is said of trials without their data, too: a plan may be made before the data are fetched
    left = spec.recipe.epochs - (0 if afresh else judged.stored.epochs_done) if one.runs else 0
    seconds = estimator.seconds(spec.recipe, left, spec.execution)
    return PlannedTrial(spec, state, detail, left, seconds, runs, judged.stored, one.pulled_by)


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
    settled: Sequence[Decision], look_for: Callable[[Sequence[TrialSpec]], Mapping[str, str]]
) -> dict[str, str]:
    """Return, for each trial that cannot be trained for want of data, its own or its parent's, what is missing.

    Trials that are not done are looked at in every mode: a report says what is missing although nothing is trained.
    """
    left = {
        one.judged.spec.trial_id: one.judged.spec
        for one in settled
        if one.runs or one.state in ("new", "partial", "drifted")
    }
    missing = look_for(list(left.values()))

    def find(trial_id: str | None) -> str | None:
        spec = left.get(trial_id or "")
        return None if spec is None else missing.get(spec.recipe.data.dataset) or find(spec.parent_id)

    return {trial_id: detail for trial_id in left if (detail := find(trial_id)) is not None}


def _missing_data(specs: Sequence[TrialSpec]) -> dict[str, str]:
    """Return, for each data set that is not there, why it is not believed to be."""
    from dnw_core.data import check_dataset

    missing: dict[str, str] = {}
    for name, spec in {spec.recipe.data.dataset: spec for spec in specs}.items():
        try:
            check_dataset(name, spec.execution)
        except DataMissingError as error:
            missing[name] = str(error)
    return missing
