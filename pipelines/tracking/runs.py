"""Writing one run into MLflow so that writing it again changes nothing.

MLflow cannot be told a run's id, so a run is found by tags: ``row_key`` (a hash, safe inside a filter) narrows the
search, ``identity`` names the trial or row, ``digest`` says what was written. The digest comes last: a run that was
cut off half-way has none, and is written afresh.

Every request costs the tracker several milliseconds, whatever is in it, so a run is written with as few as there can
be: one that makes it with its tags, one that ends it, and one with its values, whose tags MLflow writes last.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipelines.tracking.content import Content, artifacts

IDENTITY = "identity"
DIGEST = "digest"
ROW_KEY = "row_key"
_PARENT = "mlflow.parentRunId"
_NAME = "mlflow.runName"
# MLflow takes 1000 values in one request, of which 100 may be params and 100 tags
_METRICS_A_BATCH = 800
_VALUES_A_BATCH = 100


@dataclass
class Written:
    """How many runs were created, updated, or left unchanged."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


def row_key(identity: str) -> str:
    """Return a row's name as a word that needs no quotes in MLflow's filter language."""
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
        if run is not None and run.data.tags.get(DIGEST) == content.digest:
            self.written.unchanged += 1
            return str(run.info.run_id)
        if run is None:
            run_id = self._create(content, parent=None)
            gone, tags = [], {}
            self.written.created += 1
        else:
            run_id = str(run.info.run_id)
            for key in set(run.data.tags) & {"reason", "published", "command"} - set(content.tags):
                self.client.delete_tag(run_id, key)
            gone, tags = _gone(run, content), {_NAME: content.name, **content.tags}
            self.written.updated += 1
        self._finish(run_id, content)
        self._put_values(run_id, content, gone, tags)
        return run_id

    def has(self, identity: str, digest: str) -> bool:
        """Whether a trial's run is there with this content."""
        run = self._found.get(identity)
        return run is not None and run.data.tags.get(DIGEST) == digest

    def keep_trial(self, identity: str, parent: str) -> None:
        """Keep a trial's run as it is, below its row's run."""
        run = self._found[identity]
        if run.data.tags.get(_PARENT) == parent:
            self.written.unchanged += 1
        else:  # the row's run was deleted by hand and made again
            self.client.set_tag(run.info.run_id, _PARENT, parent)
            self.written.updated += 1

    def write_trial(self, content: Content, parent: str) -> None:
        """Bring a trial's run up to date. A trial that changed gets a new run: params and curves cannot be removed."""
        if self.has(content.identity, content.digest):
            self.keep_trial(content.identity, parent)
            return
        run = self._found.get(content.identity)
        if run is not None:
            self.client.delete_run(run.info.run_id)
        run_id = self._create(content, parent)
        with tempfile.TemporaryDirectory(prefix="dnw-tracker-") as scratch:
            for path in artifacts(content, Path(scratch)):
                self.client.log_artifact(run_id, str(path))
        self._finish(run_id, content)
        self._put_values(run_id, content)
        self.written.created += 1

    def _create(self, content: Content, parent: str | None) -> str:
        tags = {ROW_KEY: row_key(self.row), IDENTITY: content.identity, **content.tags}
        if parent is not None:
            tags[_PARENT] = parent
        run = self.client.create_run(self.experiment_id, start_time=content.started, tags=tags, run_name=content.name)
        return str(run.info.run_id)

    def _put_values(
        self, run_id: str, content: Content, gone: Sequence[str] = (), tags: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Write metrics (those ``gone`` as NaN: MLflow cannot delete one), params and tags, and the digest last."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(1000 * time.time())
        metrics = [Metric(one.key, one.value, one.time, one.step) for one in content.metrics]
        metrics += [Metric(key, math.nan, now, 0) for key in gone]
        params = [Param(key, value) for key, value in content.params.items()]
        rest = [RunTag(key, value) for key, value in {**tags, DIGEST: content.digest}.items()]
        while max(len(metrics) / _METRICS_A_BATCH, len(params) / _VALUES_A_BATCH, len(rest) / _VALUES_A_BATCH) > 1:
            tagged = rest[: min(_VALUES_A_BATCH, len(rest) - 1)]
            self.client.log_batch(run_id, metrics[:_METRICS_A_BATCH], params[:_VALUES_A_BATCH], tagged)
            metrics, params, rest = metrics[_METRICS_A_BATCH:], params[_VALUES_A_BATCH:], rest[len(tagged) :]
        self.client.log_batch(run_id, metrics, params, rest)

    def _finish(self, run_id: str, content: Content) -> None:
        if content.status == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, status=content.status, end_time=content.finished)


def _gone(run: Any, content: Content) -> list[str]:
    """Return the metrics of the run that it should no longer have."""
    kept = {point.key for point in content.metrics}
    return [key for key, value in run.data.metrics.items() if key not in kept and not math.isnan(value)]
