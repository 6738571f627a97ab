"""Writing one run into MLflow so that writing it again changes nothing.

MLflow cannot be told a run's id, so a run is found by tags: ``row_key`` (a hash, safe inside a filter) narrows the
search, ``identity`` names the trial or row, ``digest`` says what was written. The digest comes last: a run that was
cut off half-way has none, and is written afresh.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.tracker_content import Content, artifacts

IDENTITY = "identity"
DIGEST = "digest"
ROW_KEY = "row_key"
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
_METRICS_A_BATCH = 1000
_VALUES_A_BATCH = 100


@dataclass
class Written:
    """How many runs were written anew, brought up to date, or left alone."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


def row_key(identity: str) -> str:
    """Return a row's name as a word without quotes, for MLflow's filter language."""
    return hashlib.sha256(identity.encode("utf-8")).hexdigest()[:16]


@dataclass
class RowRuns:
    """The runs of one row in one experiment: the row's own and its trials'."""

    client: Any
    experiment_id: str
    row: str  # identity of the row
    written: Written
    _found: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        query = f"tags.{ROW_KEY} = '{row_key(self.row)}'"
        self._found = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, max_results=1000, page_token=token, order_by=["start_time ASC"]
            )
            for run in page:
                identity = run.data.tags.get(IDENTITY, "")
                if identity in self._found:  # two drivers synced at once
                    self.client.delete_run(run.info.run_id)
                else:
                    self._found[identity] = run
            token = page.token
            if not token:
                return

    def write_row(self, content: Content) -> str:
        """Bring the row's own run up to date; return its id."""
        run = self._found.get(content.identity)
        if run is None:
            run_id = self._create(content, parent=None)
            self.written.created += 1
        elif run.data.tags.get(DIGEST) == content.digest:
            self.written.unchanged += 1
            return str(run.info.run_id)
        else:
            run_id = str(run.info.run_id)
            self._put_tags(run_id, {_NAME: content.name, **content.tags})
            for key in set(run.data.tags) & {"reason", "published", "command"} - set(content.tags):
                self.client.delete_tag(run_id, key)
            self._clear_metrics(run, content)
            self.written.updated += 1
        self._put_metrics(run_id, content)
        self._finish(run_id, content)
        return run_id

    def write_trial(self, content: Content, parent: str) -> None:
        """Bring a trial's run up to date. A trial that changed gets a new run: params and curves cannot be unsaid."""
        run = self._found.get(content.identity)
        if run is not None and run.data.tags.get(DIGEST) == content.digest:
            if run.data.tags.get(_PARENT) == parent:
                self.written.unchanged += 1
            else:  # the row's run was deleted by hand and made again
                self.client.set_tag(run.info.run_id, _PARENT, parent)
                self.written.updated += 1
            return
        if run is not None:
            self.client.delete_run(run.info.run_id)
        run_id = self._create(content, parent)
        for chunk in _chunks(content.params.items(), _VALUES_A_BATCH):
            from mlflow.entities import Param

            self.client.log_batch(run_id, params=[Param(key, value) for key, value in chunk])
        self._put_metrics(run_id, content)
        with tempfile.TemporaryDirectory(prefix="dnw-tracker-") as scratch:
            for path in artifacts(content, Path(scratch)):
                self.client.log_artifact(run_id, str(path))
        self._finish(run_id, content)
        self.written.created += 1

    def _create(self, content: Content, parent: str | None) -> str:
        found_by = {ROW_KEY: row_key(self.row), IDENTITY: content.identity}
        if parent is not None:
            found_by[_PARENT] = parent
        run = self.client.create_run(
            self.experiment_id, start_time=content.started, tags=found_by, run_name=content.name
        )
        run_id = str(run.info.run_id)
        self._put_tags(run_id, content.tags)
        return run_id

    def _put_tags(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        for chunk in _chunks(tags.items(), _VALUES_A_BATCH):
            self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in chunk])

    def _put_metrics(self, run_id: str, content: Content) -> None:
        from mlflow.entities import Metric

        for chunk in _chunks(content.metrics, _METRICS_A_BATCH):
            self.client.log_batch(run_id, [Metric(one.key, one.value, one.time, one.step) for one in chunk])

    def _clear_metrics(self, run: Any, content: Content) -> None:
        """Set what has no value any more to NaN: MLflow cannot delete a metric."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        kept = {point.key for point in content.metrics}
        gone = [key for key, value in run.data.metrics.items() if key not in kept and not math.isnan(value)]
        if gone:
            self.client.log_batch(run.info.run_id, [Metric(key, math.nan, now, 0) for key in gone])

    def _finish(self, run_id: str, content: Content) -> None:
        if content.status == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, status=content.status, end_time=content.finished)
        self.client.set_tag(run_id, DIGEST, content.digest)


def _chunks(values: Iterable[Any], size: int) -> Iterable[list[Any]]:
    iterator = iter(values)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
