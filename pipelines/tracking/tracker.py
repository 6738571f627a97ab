"""MLflow as a mirror of the store: experiment = table, parent run = row, child run = seed.

The store is the truth; the mirror can be rebuilt from it at any time. The driver writes it, never a trial, and its
errors do not leave this module: training continues, and one line reports them.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnw_core.errors import RecordError
from pipelines.tracking.addresses import artifact_root, resolve_uri, sqlite_path, without_password
from pipelines.tracking.content import row_content, row_identity, trial_content, trial_digest
from pipelines.tracking.database import explain, make_database, make_no_folders
from pipelines.tracking.reachable import first_line, set_timeouts
from pipelines.tracking.runs import RowRuns, Written

log = logging.getLogger(__name__)
_MOST_SKIPPED = 3
Row = Mapping[str, Any]


@dataclass
class SyncOutcome(Written):
    """What a sync did. ``error`` is one line when it could not be finished, ``skipped`` names unreadable trials."""

    error: str | None = None
    skipped: list[str] = field(default_factory=list)

    @property
    def writes(self) -> int:
        """Runs that were touched."""
        return self.created + self.updated


class Tracker:
    """The tracker of a results folder.

    Args:
        tracking_uri: where MLflow is; None is a SQLite file inside the results folder.
        results_dir: the results folder.

    Raises:
        UserError: if the address is of an unknown kind.
    """

    def __init__(self, tracking_uri: str | None, results_dir: Path) -> None:
        self.results_dir = results_dir
        self.uri = resolve_uri(tracking_uri, results_dir)
        self._client: Any = None
        self._experiments: dict[str, str] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return without_password(self.uri)

    def prepare(self) -> None:
        """Load MLflow and make its database where there is none (seconds). Never raises: ``sync`` reports errors."""
        with self._lock:
            try:
                self._connect().search_experiments(max_results=1)
            except Exception:
                self._client = None

    def sync(self, rows: Sequence[Row], *, trials: Path | None = None, experiment: str | None = None) -> SyncOutcome:
        """Bring the rows' runs up to date with the store. Never raises; ``error`` holds what went wrong.

        Args:
            rows: the rows as the planner gives them to the report (``planner.report_rows``).
            trials: the results folder that holds their trials; the tracker's own by default.
            experiment: the name of the experiment that holds their runs; the table's by default.
        """
        outcome = SyncOutcome()
        try:
            with self._lock:
                self._sync(rows, outcome, trials or self.results_dir, experiment)
        except Exception as error:  # whatever MLflow, SQLAlchemy, requests or the disk come up with
            outcome.error = self._trouble(error)
        return outcome

    def _trouble(self, error: Exception) -> str:
        """Return an error in one line, and forget the connection."""
        log.debug("the tracker failed", exc_info=True)
        self._client = None
        self._experiments = {}
        return explain(first_line(error), sqlite_path(self.uri))

    def _sync(self, rows: Sequence[Row], outcome: SyncOutcome, results_dir: Path, name: str | None) -> None:
        from reports import read_trials, summarise

        trials = read_trials(results_dir, rows)
        summary: list[dict[str, Any]] = summarise(rows, trials, "paper").to_dict("records")  # type: ignore[assignment]
        ended = trials[trials["status"].isin(("done", "failed"))].to_dict("records")
        for trial in trials[trials["status"] == "unreadable"].to_dict("records"):
            outcome.skipped.append(f"{trial['folder']}: {trial['reason']}")
        of_row: dict[str, list[dict[Any, Any]]] = {}
        for trial in ended:
            of_row.setdefault(row_identity(trial["table"], trial["row"], trial["fingerprint"]), []).append(trial)
        for row, line in zip(rows, summary, strict=True):
            identity = row_identity(row["table"], row["row"], row["fingerprint"])
            if identity not in of_row:
                continue
            experiment = self._experiment(name or row["table"], str(row.get("table_title") or row["table"]))
            runs = RowRuns(self._connect(), experiment, identity, outcome)
            parent = runs.write_row(row_content(row, line, int(1000 * time.time())))
            for trial in of_row[identity]:
                folder, own = results_dir / trial["folder"], f"{identity}/seed-{trial['seed']}"
                try:
                    content = None if runs.has(own, trial_digest(folder)) else trial_content(folder)
                except (OSError, ValueError, RecordError) as error:
                    outcome.skipped.append(f"{trial['folder']}: {first_line(error)}")
                    continue
                if content is None:
                    runs.keep_trial(own, parent)
                else:
                    runs.write_trial(content, parent)

    def _connect(self) -> Any:
        if self._client is None:
            set_timeouts()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from mlflow.tracking import MlflowClient

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            path = sqlite_path(self.uri)
            if path is not None:
                make_no_folders()
                make_database(path)
            self._client = MlflowClient(tracking_uri=self.uri)
        return self._client

    def _experiment(self, name: str, title: str) -> str:
        """Return the experiment's id; it is made with absolute folders, or restored if it was deleted."""
        if name in self._experiments:
            return self._experiments[name]
        client = self._connect()
        found = client.get_experiment_by_name(name)
        root = artifact_root(self.uri, self.results_dir)
        if found is None:
            place = None if root is None else (root / name).as_uri()
            tags = {"mlflow.note.content": title}
            experiment = self._make_experiment(name, place, tags)
        else:
            experiment = str(found.experiment_id)
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(experiment)
        self._experiments[name] = experiment
        return experiment

    def _make_experiment(self, name: str, place: str | None, tags: dict[str, str]) -> str:
        """Make an experiment, or find the one that another driver has just made; return its id."""
        from mlflow.exceptions import MlflowException

        client = self._connect()
        try:
            return str(client.create_experiment(name, artifact_location=place, tags=tags))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def describe(outcome: SyncOutcome, seconds: float) -> str:
    """Return one line about a sync that succeeded."""
    counts = f"{outcome.created} runs written, {outcome.updated} brought up to date, {outcome.unchanged} unchanged"
    left_out = outcome.skipped[:_MOST_SKIPPED]
    if len(outcome.skipped) > len(left_out):
        left_out.append(f"and {len(outcome.skipped) - len(left_out)} more")
    return f"{counts} in {seconds:.1f} s" + "".join(f"\nleft out: {text}" for text in left_out)
