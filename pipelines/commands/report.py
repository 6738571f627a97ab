"""The end of a command: the report, a few lines, and the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from pipelines.commands.options import COMMAND, Options
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, say
from pipelines.plan import Plan, find_leftovers, leftover_entries
from pipelines.storage import ResultsBackend
from pipelines.store import Store
from pipelines.tracking import sqlite_uri
from tune_configs import Table

_MOST_FAILURES = 10


def write_report(
    plan: Plan,
    rows: list[dict[str, Any]],
    tables: dict[str, Table],
    store: Store,
    options: Options,
    argv: Sequence[str],
) -> None:
    """Write the report of the rows.

    Raises:
        UserError: if there are no results, or the report cannot be written.
    """
    from pipelines.counts import report_costs
    from reports import build_report

    if not options.results_dir.is_dir():
        raise UserError(f"there is no results folder {options.results_dir}; train first, or give --results-dir")
    costs = report_costs(tables, rows, store, say)
    command = shlex.join(["python", COMMAND, *argv])
    others = leftover_entries(find_leftovers(store, tables, plan, whole_tables=True))
    try:
        paths = build_report(
            options.results_dir, rows, scale=options.scale, command=command, costs=costs, leftovers=others
        )
    except OSError as error:
        raise UserError(f"the report cannot be written to {options.results_dir} ({error.strerror or error})") from None
    say(f"report: {_short(paths.markdown)}")


def publish(backend: ResultsBackend) -> None:
    """Upload the report of ``--report-only``; without the right to write, it is on this machine only."""
    try:
        backend.publish()
    except UserError as error:
        say(f"warning: the report is not in {backend} ({error})")


def finish(plan: Plan, options: Options) -> int:
    """Print the outcome and return the exit code."""
    failed = [trial for trial in plan.trials if trial.state == "failed"]
    missing = [trial for trial in plan.trials if trial.state not in ("done", "failed")]
    for trial in failed[:_MOST_FAILURES]:
        say(f"failed: {trial.spec.trial_id}: {trial.detail}")
    blocked = [trial for trial in missing if trial.state == "blocked"]
    for trial in blocked[:_MOST_FAILURES]:
        say(f"not trained: {trial.spec.trial_id}: {trial.detail}")
    done = len(plan.trials) - len(failed) - len(missing)
    without_data = len(plan.without_data())
    counts = [f"{len(blocked)} of them blocked"] if blocked else []
    counts += [f"{without_data} of them without data"] if without_data else []
    of_these = f" ({', '.join(counts)})" if counts else ""
    say(f"{done} of {len(plan.trials)} trials done, {len(failed)} failed, {len(missing)} missing{of_these}")
    if failed or blocked:
        say("to try the failed ones again: the same command with --mode retry")
    database = options.results_dir / "mlflow" / "mlflow.db"
    if options.tracking_uri is None and database.exists():
        say(f"runs: {server_command(database)}")
    return NOT_ALL_DONE if failed or missing else ALL_DONE


def server_command(database: Path) -> str:
    """Return the command that shows a tracker's runs.

    MLflow's server mishandles a quoted address: it makes folders named with the quotes. Started beside the file, it
    needs no quotes.
    """
    uri, plain = sqlite_uri(database), f"sqlite:///{database.absolute()}"
    start = f"--backend-store-uri {shlex.quote(uri if uri == plain else f'sqlite:///{database.name}')}"
    there = "" if uri == plain else f"cd {shlex.quote(str(database.parent.absolute()))} && "
    return f"{there}MLFLOW_DISABLE_TELEMETRY=true mlflow server {start} --workers 1 --host 127.0.0.1 --port 5000"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
