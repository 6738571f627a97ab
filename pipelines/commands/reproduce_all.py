"""The command ``reproduce_all.py``: plan, train what is missing, track, report."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

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
from pipelines.driver import Detached, HeartbeatWriter, Progress, driver_lines, find_driver, start_detached, stop_driver
from pipelines.plan import (
    Placement,
    Plan,
    PlannedRow,
    check_data,
    choose_device,
    complete_tables,
    find_leftovers,
    gpus_of,
    leftover_lines,
    make_plan,
    parse_overrides,
    plan_rows,
    prepare_store,
    report_rows,
    select_rows,
)
from pipelines.storage import DriverFolderBackend, ResultsBackend, open_backend
from pipelines.store import LOG_FILE, Store, adopt_trials
from tune_configs import Row, Table, load_tables

_OURSELVES = (sys.executable, str(Path(__file__).parents[1] / "reproduce_all.py"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error."""
    detached = Detached.from_environment(os.environ)
    return run(lambda arguments: run_command(parse_options(arguments), arguments, detached), argv, _stopped)


def _stopped(argv: Sequence[str]) -> str:
    return f"stopped; what was finished is kept. To resume: {resume_command(argv)}"


def run_command(options: Options, argv: Sequence[str], detached: Detached | None = None) -> int:
    """Do what the options say and return the exit code.

    Args:
        options: the arguments, parsed.
        argv: the arguments.
        detached: set if ``--detach`` started this process.

    Raises:
        UserError: for a user's mistake, before anything is trained.
        KeyboardInterrupt: if the training was stopped.
    """
    backend = _backend(options)
    if options.stop:
        with backend.reading():
            return ALL_DONE if stop_driver(options.results_dir, say, place=str(backend)) else NOT_ALL_DONE
    if options.detach and detached is None:
        return _detach(options, argv)
    tables = load_tables()
    overrides = parse_overrides(options.settings)
    rows = select_rows(tables, only=options.only, table_ids=options.tables, extra=options.extra)
    if options.list:
        say("\n".join(listing.list_lines(tables, rows)))
        return ALL_DONE
    with backend.reading():
        store = backend.open_store(trust_unchanged=options.plan or options.status)
        tables = complete_tables(tables, rows, options.scale, options.data_dir, store)
        rows = [tables[row.table].rows[row.id] for row in rows]
        planned = plan_rows(tables, rows, options.scale, seeds=options.seeds, overrides=overrides)
        lost = [row for row in rows if row.not_reproducible is not None]
        command = _Command(options, argv, backend, store, tables, planned, lost)
        if options.plan or options.status or options.report_only or options.mode == "read-only":
            return command.show()
    if not planned:
        names = ", ".join(f"{row.table}/{row.id} is not reproducible ({row.not_reproducible})" for row in lost)
        raise UserError(f"nothing to train: {names}; name other rows with --only")
    return replace(command, store=backend.open_store(create=True)).train(detached)


@dataclass(frozen=True)
class _Command:
    """A command on results: its options, the store, and the rows that it selects."""

    options: Options
    argv: Sequence[str]
    backend: ResultsBackend
    store: Store
    tables: dict[str, Table]
    rows: Sequence[PlannedRow]
    not_reproducible: Sequence[Row]

    def show(self) -> int:
        """Print the plan or the status, or write the report; train nothing."""
        options = self.options
        plan = self._plan(training=False)
        if options.plan or options.status:
            others = leftover_lines(find_leftovers(self.store, self.tables, plan, whole_tables=False))
            if options.plan:
                say("\n".join(listing.plan_lines(plan, _at_once(plan, options), others)))
            else:
                say("\n".join([*listing.status_lines(plan, self.store, self._driver()), *others]))
            return ALL_DONE
        if options.adopt is not None:
            with self.backend.exclusive(say):
                self._adopt()
            plan = self._plan(training=False)
        self._write_report(plan)
        publish(self.backend)
        return ALL_DONE if options.report_only else finish(plan, options)

    def train(self, detached: Detached | None) -> int:
        """Train what is missing, track and report it.

        Raises:
            UserError: for a user's mistake, before anything is trained.
            KeyboardInterrupt: if the training was stopped.
        """
        options, resume = self.options, resume_command(self.argv)
        with self.backend.exclusive(say), HeartbeatWriter(options.results_dir, resume, options.cluster) as heartbeat:

            def begun(progress: Progress) -> None:
                heartbeat.watch(progress)
                if detached is not None:
                    detached.begin(options.results_dir, ["python", COMMAND, *self.argv])

            self._adopt()
            plan = self._plan()
            missing = self._run(plan, begun, resume)
            # counted again, with the rows that joined the plan
            after = replace(self, rows=plan.rows)._plan(recount=True, missing=missing)
            self._write_report(after)
            self.backend.publish()
        return finish(after, options)

    def _run(self, plan: Plan, begun: Callable[[Progress], None], resume: str) -> Mapping[str, str]:
        """Train and track the plan's trials; return the data sets that no node of the cluster has, and why."""
        from pipelines.tracking import TrackerProcess, check_reachable

        options, runs = self.options, plan.to_run()
        check_reachable(options.tracking_uri, options.results_dir)
        check_data(plan, local=options.cluster is None, say=say)
        if options.cluster is not None and runs:
            from pipelines.cluster import check_cluster

            check_cluster(options.cluster)
        say("\n".join([f"scale {options.scale}; {listing.total_line(plan, _at_once(plan, options))}", *plan.notes]))
        missing: Mapping[str, str] = {}
        rows = self._report_rows(plan)
        with TrackerProcess(options.tracking_uri, options.results_dir) as tracker:
            if runs:
                from pipelines.schedule import run_schedule
                from pipelines.tracking import BackgroundSync

                prepare_store(plan, self.store, say)
                with BackgroundSync(tracker, rows) as sync, self.backend.notify_when_local(sync.finished) as finished:
                    outcome = run_schedule(
                        [trial.spec for trial in runs],
                        plan=plan,
                        store=self.store,
                        home=self.backend,
                        cluster=options.cluster,
                        on_begun=begun,
                        on_finished=finished,
                        max_failures=options.max_failures,
                        node_types=options.node_types,
                        pack_gpus=options.trials_per_gpu == "auto",
                        resume=resume,
                    )
                if outcome.interrupted:
                    raise KeyboardInterrupt
                missing = outcome.missing
            synced = tracker.sync(rows)
            if synced.error is not None:
                say(f"warning: the tracker is not up to date ({synced.error}); run pipelines/sync_mlflow.py later")
        return missing

    def _adopt(self) -> None:
        """Copy the finished trials of ``--adopt``'s folder into the results."""
        if self.options.adopt is None:
            return
        taken = adopt_trials(self.options.adopt, self.backend.open_store(create=True))
        there = f" ({len(taken.present)} were there)" if taken.present else ""
        say(f"{len(taken.copied)} finished trials adopted from {self.options.adopt}{there}")

    def _plan(
        self, *, training: bool = True, recount: bool = False, missing: Mapping[str, str] = MappingProxyType({})
    ) -> Plan:
        options = self.options
        cluster = options.cluster is not None
        device = choose_device(
            options.device, cluster=cluster, trials_per_gpu=options.trials_per_gpu, planning=not training
        )
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
            self.rows,
            options.scale,
            self.store,
            placement,
            mode="read-only" if recount else options.mode,
            check_data=not cluster,
            missing=missing,
            not_reproducible=self.not_reproducible,
        )

    def _driver(self) -> list[str]:
        if not self.options.results_dir.exists():
            return [f"there is no results folder {self.backend} yet"]
        return driver_lines(find_driver(self.options.results_dir))

    def _write_report(self, plan: Plan) -> None:
        write_report(plan, self._report_rows(plan), self.tables, self.store, self.options, self.argv)

    def _report_rows(self, plan: Plan) -> list[dict[str, Any]]:
        options = self.options
        command = partial(row_command, scale=options.scale, data_dir=options.data_dir, download=options.download)
        return report_rows(plan, self.tables, self.store, command)


def _detach(options: Options, argv: Sequence[str]) -> int:
    """Start the command in a session of its own; return once it trains, or has ended."""
    process, code = start_detached([*_OURSELVES, *argv])
    if code is None:
        say(
            f"training as process {process} on {socket.gethostname()}; log: {options.results_dir / LOG_FILE}\n"
            f"to see its progress: {status_command(argv)}\n"
            f"to stop it: {stop_command(options.results_uri or str(options.results_dir))}"
        )
    return ALL_DONE if code is None else code


def _at_once(plan: Plan, options: Options) -> int | None:
    """Return how many of the plan's trials this machine runs at once; None for a cluster or on GPUs."""
    runs = plan.to_run()
    if options.cluster is not None or not runs or runs[0].spec.resources.gpus:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(len(runs), int(cores / max(trial.spec.resources.cpus for trial in runs))))


def _backend(options: Options) -> ResultsBackend:
    """Return the backend of the results that the options name."""
    if options.store == "head" and options.results_uri is None:
        return DriverFolderBackend(options.results_dir)
    return open_backend(options.results_uri or options.results_dir)
