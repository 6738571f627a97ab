"""The command: plan, train what is missing, track, report."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from dnw_core.errors import UserError
from pipelines.commands import listing
from pipelines.commands.options import COMMAND, Options, parse_options
from pipelines.commands.report import (
    finish,
    publish,
    write_report,
)
from pipelines.commands.reproduction import resume_command, row_command, status_command, stop_command
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run, say
from pipelines.driver import Detached, Progress, beating, driver_lines, find_driver, start_detached, stop_driver
from pipelines.plan import (
    Placement,
    Plan,
    PlannedRow,
    check_data,
    complete_tables,
    find_leftovers,
    gpus_of,
    leftover_lines,
    make_plan,
    make_room,
    parse_overrides,
    plan_rows,
    report_rows,
    select_rows,
    settle_device,
)
from pipelines.storage import DriverFolderBackend, ResultsBackend, open_backend
from pipelines.store import LOG_FILE, Store
from tune_configs import Row, Table, load_tables

_OURSELVES = (sys.executable, str(Path(__file__).parents[1] / "reproduce_all.py"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error."""
    detached = Detached.from_environment(os.environ)
    return run(lambda words: run_command(parse_options(words), words, detached), argv, _stopped)


def _stopped(words: Sequence[str]) -> str:
    return f"stopped; what was finished is kept. To resume: {resume_command(words)}"


def run_command(options: Options, words: Sequence[str], detached: Detached | None = None) -> int:
    """Do what the options say and return the exit code.

    Args:
        options: the words, parsed.
        words: the command line.
        detached: if this process is what another one has detached.

    Raises:
        UserError: for anything that is the user's to mend, before anything is trained.
    """
    home = _home_of(options)
    if options.stop:
        with home.reading():
            return ALL_DONE if stop_driver(options.results_dir, say, place=str(home)) else NOT_ALL_DONE
    if options.detach and detached is None:
        return _detach(options, words)
    tables = load_tables()
    overrides = parse_overrides(options.settings)
    rows = select_rows(tables, only=options.only, table_ids=options.tables, extra=options.extra)
    if options.list:
        return _print(listing.list_lines(tables, rows))
    with home.reading():
        store = home.open_store(trust_unchanged=options.plan or options.status)
        tables = complete_tables(tables, rows, options.scale, options.data_dir, store)
        rows = [tables[row.table].rows[row.id] for row in rows]
        planned = plan_rows(tables, rows, options.scale, seeds=options.seeds, overrides=overrides)
        lost = [row for row in rows if row.not_reproducible is not None]

        if options.plan:
            plan = _plan(planned, lost, options, store, planning=True)
            others = leftover_lines(find_leftovers(store, tables, plan, whole_tables=False))
            return _print(listing.plan_lines(plan, _at_once(plan, options), others))
        if options.status:
            plan = _plan(planned, lost, options, store, planning=True)
            there = options.results_dir.exists()
            driver = (
                driver_lines(find_driver(options.results_dir)) if there else [f"there is no results folder {home} yet"]
            )
            others = leftover_lines(find_leftovers(store, tables, plan, whole_tables=False))
            return _print([*listing.status_lines(plan, store, driver), *others])
        if options.report_only or options.mode == "read-only":
            plan = _plan(planned, lost, options, store, planning=True)
            write_report(plan, _rows(plan, tables, store, options), tables, store, options, words)
            publish(home)
            return ALL_DONE if options.report_only else finish(plan, options)
    if not planned:
        names = ", ".join(f"{row.table}/{row.id} is not reproducible ({row.not_reproducible})" for row in lost)
        raise UserError(f"nothing to train: {names}; name other rows with --only")

    store = home.open_store(create=True)
    to_go_on = resume_command(words)
    with home.exclusive(say), beating(options.results_dir, to_go_on, options.cluster) as heart:

        def begun(progress: Progress) -> None:
            heart.watch(progress)
            if detached is not None:
                detached.begin(options.results_dir, ["python", COMMAND, *words])

        plan = _plan(planned, lost, options, store)
        outcome = _train(plan, tables, store, options, home, begun, to_go_on)
        if outcome.interrupted:
            raise KeyboardInterrupt
        # with the rows that were pulled in
        after = _plan(plan.rows, lost, options, store, recount=True, missing=outcome.missing)
        write_report(after, _rows(after, tables, store, options), tables, store, options, words)
        home.publish()
    return finish(after, options)


def _detach(options: Options, words: Sequence[str]) -> int:
    """Start the command as a session of its own; return once it trains, or has ended."""
    process, code = start_detached([*_OURSELVES, *words])
    if code is None:
        say(
            f"it goes on as process {process} on {socket.gethostname()}; its log: {options.results_dir / LOG_FILE}\n"
            f"how far it is: {status_command(words)}\n"
            f"to end it: {stop_command(options.results_uri or str(options.results_dir))}"
        )
    return ALL_DONE if code is None else code


def _plan(
    rows: Sequence[PlannedRow],
    lost: Sequence[Row],
    options: Options,
    store: Store,
    *,
    planning: bool = False,
    recount: bool = False,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    cluster = options.cluster is not None
    device = settle_device(options.device, cluster=cluster, trials_per_gpu=options.trials_per_gpu, planning=planning)
    placement = Placement(
        device=device,
        threads=options.threads,
        workers=options.workers,
        trials_per_gpu=options.trials_per_gpu,
        gpus_here=gpus_of(device, cluster=cluster),
        checkpoint_minutes=options.checkpoint_minutes,
        compile=options.compile,
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        download=options.download,
    )
    return make_plan(
        rows,
        options.scale,
        store,
        placement,
        mode="read-only" if recount else options.mode,
        check_data=options.cluster is None,
        missing=missing,
        not_reproducible=lost,
    )


class _Outcome(NamedTuple):
    """How the training ended: by Ctrl-C or not, and which data sets no node of a cluster has."""

    interrupted: bool
    missing: Mapping[str, str]


def _train(
    plan: Plan,
    tables: dict[str, Table],
    store: Store,
    options: Options,
    home: ResultsBackend,
    begun: Callable[[Progress], None],
    to_go_on: str,
) -> _Outcome:
    """Train what the plan says and mirror it in the tracker."""
    from pipelines.tracking import TrackerProcess, check_reachable

    check_reachable(options.tracking_uri, options.results_dir)
    check_data(plan, local=options.cluster is None, say=say)
    if options.cluster is not None and plan.to_run():
        from pipelines.cluster import check_cluster

        check_cluster(options.cluster)
    say(f"scale {options.scale}; " + listing.total_line(plan, _at_once(plan, options)))
    for note in plan.notes:
        say(note)
    ended = _Outcome(interrupted=False, missing={})
    rows = _rows(plan, tables, store, options)
    with TrackerProcess(options.tracking_uri, options.results_dir) as tracker:
        if plan.to_run():
            from pipelines.schedule import run_schedule
            from pipelines.tracking import BackgroundSync

            make_room(plan, store, say)
            with BackgroundSync(tracker, rows) as sync, home.notify_when_local(sync.finished) as finished:
                specs = [trial.spec for trial in plan.to_run()]
                outcome = run_schedule(
                    specs,
                    plan=plan,
                    store=store,
                    home=home,
                    cluster=options.cluster,
                    on_begun=begun,
                    on_finished=finished,
                    max_failures=options.max_failures,
                    node_types=options.node_types,
                    pack_gpus=options.trials_per_gpu == "auto",
                    resume=to_go_on,
                )
            ended = _Outcome(outcome.interrupted, outcome.missing)
        if not ended.interrupted:
            synced = tracker.sync(rows)
            if synced.error is not None:
                say(
                    f"warning: the tracker could not be brought up to date ({synced.error}); "
                    "pipelines/sync_mlflow.py does it later"
                )
    return ended


def _rows(plan: Plan, tables: dict[str, Table], store: Store, options: Options) -> list[dict[str, Any]]:
    return report_rows(
        plan,
        tables,
        store,
        lambda row, seeds: row_command(row, seeds, options.scale, options.data_dir, options.download),
    )


def _at_once(plan: Plan, options: Options) -> int | None:
    """Return how many of the plan's trials this machine takes together; None for a cluster or on GPUs."""
    runs = plan.to_run()
    if options.cluster is not None or not runs or runs[0].spec.resources.gpus:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(len(runs), int(cores / max(trial.spec.resources.cpus for trial in runs))))


def _print(lines: list[str]) -> int:
    print("\n".join(lines), flush=True)
    return ALL_DONE


def _home_of(options: Options) -> ResultsBackend:
    """Return the place of results that the options name."""
    if options.store == "head" and options.results_uri is None:
        return DriverFolderBackend(options.results_dir)
    return open_backend(options.results_uri or options.results_dir)
