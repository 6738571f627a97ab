"""The output of ``--list``, ``--plan`` and ``--status``: plain text, for eyes and grep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from dnw_core.files import read_json
from pipelines.plan import Plan, PlannedRow, PlannedTrial, seeds_text, worker_lines
from pipelines.store import Store, work_folder
from pipelines.text import columns, duration
from tune_configs import Published, Row, Table

_MOST_DETAILS = 3


def list_lines(tables: dict[str, Table], rows: Sequence[Row]) -> list[str]:
    """Return the tables with their rows and published numbers."""
    lines = []
    for table in tables.values():
        members = [row for row in rows if row.table == table.id]
        if not members:
            continue
        lines += [f"{table.id}: {table.title}", f"  from {table.source}"]
        cells = [(f"{row.table}/{row.id}", row.label, _number(row), _remark(row)) for row in members]
        lines += [f"  {line}" for line in columns(cells)] + [""]
    return lines[:-1]


def _remark(row: Row) -> str:
    if row.not_reproducible is not None:
        return _not_reproducible(row)
    return f"needs {row.parent_row}" if row.parent_row else ""


def _not_reproducible(row: Row) -> str:
    return f"not reproducible: {row.not_reproducible}"


def _number(row: Row) -> str:
    if row.published is None:
        return "extra, nothing published"
    return f"extra, {published_text(row.published)}" if row.extra else published_text(row.published)


def published_text(published: Published) -> str:
    """Return ``80.9 ± 0.6 (n 5, assumed)``, ``74 (top-5 92)``, ``74.6 (other recipe)``."""
    spread = "" if published.spread is None else f" ± {published.spread:g}"
    runs = "" if published.n is None else f" (n {published.n}, {published.n_is})"
    quoted = published.quoted
    there = "" if quoted is None or quoted.mean == published.mean else f", {quoted.mean:g} there"
    top5 = "" if published.top5 is None else f" (top-5 {published.top5:g})"
    other = " (other recipe)" if published.recipe == "other" else ""
    return f"{published.mean:g}{spread}{runs}{top5}{'' if quoted is None else f' (quoted{there})'}{other}"


def plan_lines(plan: Plan, at_once: int | None, others: Sequence[str] = ()) -> list[str]:
    """Return what would be trained, what is done, and how long it takes.

    Args:
        plan: the plan.
        at_once: trials that this machine runs at once; None if unknown.
        others: lines about results that belong to no row (``leftovers``).
    """
    cells = [("row", "fingerprint", "seeds", "state", "epochs left", "time")]
    for row in _in_place(plan):
        if isinstance(row, Row):
            cells.append((f"{row.table}/{row.id}", "", "", _not_reproducible(row), "", ""))
            continue
        trials = plan.trials_of(row)
        seconds = sum(trial.estimated_seconds for trial in trials)
        epochs = sum(trial.epochs_left for trial in trials)
        time = duration(seconds) if epochs else ""
        cells.append((row.name, row.fingerprint, seeds_text(row.all_seeds), _counts(trials), str(epochs), time))
    workers = [*plan.notes, *worker_lines(trial.spec for trial in plan.to_run())]
    head = f"scale {plan.scale}, mode {plan.mode}"
    lines = [head, *workers, *columns(cells), *_chains(plan), *_details(plan.trials), *others, ""]
    return [*lines, total_line(plan, at_once)]


def total_line(plan: Plan, at_once: int | None) -> str:
    """Return trials, epochs and hours of the whole plan in one line."""
    runs = plan.to_run()
    done = sum(trial.state == "done" for trial in plan.trials)
    text = f"{len(plan.rows)} rows, {len(plan.trials)} trials: {done} done, "
    text += f"{_without_data(plan)}{len(runs)} to be trained"
    if not runs:
        return text
    seconds = sum(trial.estimated_seconds for trial in runs)
    source = "from finished trials" if plan.measured else "a rough guess until a trial of each kind has finished"
    text += f", {sum(trial.epochs_left for trial in runs)} epochs, about {duration(seconds)} one after another"
    if at_once is not None and at_once > 1:
        longest = max(_chain_seconds(runs))
        text += f", {duration(max(seconds / at_once, longest))} with {at_once} at once"
    return f"{text} ({source})"


def _without_data(plan: Plan) -> str:
    """Return how many trials lack their data; an empty text without any."""
    trials = plan.without_data()
    if not trials:
        return ""
    seconds = sum(trial.estimated_seconds for trial in trials)
    return f"{len(trials)} without their data (about {duration(seconds)} one after another), "


def status_lines(plan: Plan, store: Store, driver: Sequence[str]) -> list[str]:
    """Return the progress of each row, after the lines about the driver (``driver_lines``)."""
    cells = [("row", "seeds done", "state", "accuracy %", "now")]
    for row in _in_place(plan):
        if isinstance(row, Row):
            cells.append((f"{row.table}/{row.id}", "", _not_reproducible(row), "", ""))
            continue
        trials = plan.trials_of(row)
        done = [trial.stored.record for trial in trials if trial.state == "done"]
        scores = [100 * record.last.test_accuracy for record in done if record is not None and record.last is not None]
        mean = f"{sum(scores) / len(scores):.2f}" if scores else ""
        now = ", ".join(text for trial in trials if (text := _progress(trial, store)))
        cells.append((row.name, f"{len(done)}/{len(trials)}", _counts(trials), mean, now))
    who, *more = driver
    return [f"scale {plan.scale}; {who}", *more, *columns(cells), *_details(plan.trials)]


def _in_place(plan: Plan) -> list[PlannedRow | Row]:
    """Return the planned rows, with each row that is not reproducible in its place of the table, or at the end."""
    waiting = list(plan.not_reproducible)
    placed: list[PlannedRow | Row] = []
    for planned in plan.rows:
        order = list(planned.table.rows)
        before = [
            row
            for row in waiting
            if row.table == planned.table.id and order.index(row.id) < order.index(planned.row.id)
        ]
        placed += [*before, planned]
        waiting = [row for row in waiting if row not in before]
    return [*placed, *waiting]


def _chain_seconds(runs: Sequence[PlannedTrial]) -> list[float]:
    """Return the seconds of each trial and of all trials that it waits for."""
    by_id = {trial.spec.trial_id: trial for trial in runs}

    def chain(trial: PlannedTrial) -> float:
        parent = by_id.get(trial.spec.parent_id or "")
        return trial.estimated_seconds + (chain(parent) if parent is not None else 0.0)

    return [chain(trial) for trial in runs]


def _chains(plan: Plan) -> list[str]:
    """Return a line for each row that starts from another row's trials, and for each row that others require."""
    running = {trial.spec.trial_id for trial in plan.to_run()}
    lines = []
    for row in plan.rows:
        trials = plan.trials_of(row)
        requiring = list(dict.fromkeys(name for trial in trials for name in trial.required_by))
        if requiring:
            seeds = ", ".join(str(trial.spec.seed) for trial in trials if trial.required_by)
            lines.append(f"  {row.name} seed {seeds}: required by {', '.join(requiring)}")
        if row.parent is not None:
            states: dict[str, list[str]] = {}
            for trial in trials:
                if trial.will_run:
                    text = "is trained first" if trial.spec.parent_id in running else "is done"
                    states.setdefault(text, []).append(str(trial.spec.seed))
            when = "; ".join(f"seed {', '.join(seeds)} {text}" for text, seeds in states.items())
            lines.append(f"  {row.name} needs {row.parent.name}" + (f": {when}" if when else ""))
    return lines


def _counts(trials: Iterable[PlannedTrial]) -> str:
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _details(trials: Sequence[PlannedTrial]) -> list[str]:
    """Return a line for each trial's detail, one for all seeds that share it."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for trial in trials:
        if trial.detail:
            seeds.setdefault((trial.spec.row_name, trial.state, trial.detail), []).append(trial.spec.seed)
    missing = {detail for _, state, detail in seeds if state == "data missing"}
    lines = [
        f"  {name} seed {', '.join(map(str, which))}: {detail if state == 'blocked' else f'{state}: {detail}'}"
        for (name, state, detail), which in seeds.items()
        if state != "data missing"
    ]
    return [*lines, *(f"  data missing: {detail}" for detail in sorted(missing))]


def _progress(trial: PlannedTrial, store: Store) -> str:
    if trial.state not in ("partial", "new", "drifted"):
        return ""
    values = read_json(work_folder(store.folder(trial.spec)) / "progress.json")
    if not isinstance(values, dict) or not isinstance(values.get("epoch"), int):
        return ""
    metrics = values.get("metrics")
    accuracy = metrics.get("test_accuracy") if isinstance(metrics, dict) else None
    score = f" {100 * accuracy:.1f} %" if isinstance(accuracy, float) else ""
    return f"seed {trial.spec.seed} epoch {values['epoch']}/{trial.spec.recipe.epochs}{score}"
