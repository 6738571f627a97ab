"""A search in MLflow: an experiment of its own, the search as parent run, a child run for each ended configuration.

Like the rest of the tracker it mirrors the store, is found again by tags, and can be made anew at any time.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence

from dnw_core.config import flatten
from dnw_core.record import LOG_FILE
from pipelines.hpo.curve import read_curve, read_stopped
from pipelines.hpo.plan import Judged, Search, ranking
from pipelines.store import Store, work_folder
from pipelines.tracking import (
    CONTENT_VERSION,
    EPOCH_METRICS,
    LONGEST_PARAM,
    Content,
    Point,
    RowRuns,
    SyncOutcome,
    Tracker,
    content_digest,
    epoch_points,
    milliseconds,
    shorten,
)

_COLUMNS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "live_edges", "seconds")
# the held-out images stand in for the test images
_METRICS = {
    column: (EPOCH_METRICS[column][0].replace("test_", "validation_"), EPOCH_METRICS[column][1]) for column in _COLUMNS
}


class SearchTracker(Tracker):
    """The tracker of a results folder, for its searches."""

    def sync_search(self, search: Search, judged: Sequence[Judged], found: str) -> SyncOutcome:
        """Bring a search's runs up to date with its store. Never raises; says in ``error`` what went wrong.

        Args:
            search: the search.
            judged: how its configurations stand; those that have ended get a run.
            found: the file with the winner's settings, or nothing.
        """
        outcome = SyncOutcome()
        try:
            with self._lock:
                title = f"Search for hyper-parameters of {search.name} on held-out training images"
                experiment = self._experiment(f"search {search.name}", title)
                runs = RowRuns(self._connect(), experiment, search.identity, outcome)
                parent = runs.write_row(search_content(search, judged, found, int(1000 * time.time())))
                for one in judged:
                    if one.standing in ("finished", "stopped", "failed"):
                        runs.write_trial(configuration_content(search, one), parent)
        except Exception as error:  # whatever MLflow, SQLAlchemy, requests or the disk come up with
            outcome.error = self._trouble(error)
        return outcome


def search_content(search: Search, judged: Sequence[Judged], found: str, now: int) -> Content:
    """Return the run of the search itself; ``now`` is in milliseconds since 1970 and no part of the digest."""
    counts = Counter(one.standing for one in judged)
    finished = [one for one in ranking(list(judged)) if one.standing == "finished"]
    metrics: dict[str, float] = {f"configurations_{name}": counts[name] for name in ("finished", "stopped", "failed")}
    metrics |= {
        "configurations": len(judged),
        "epochs_trained": sum(one.epochs_done for one in judged),
        "train_seconds": sum(one.seconds for one in judged),
    }
    tags = {
        "row": search.name,
        "scale": search.scale,
        "seed": str(search.seed),
        "epochs": str(search.epochs),
        "training_images": str(search.images),
        "validation_images": str(search.budget.validation_images),
        "first_rung": str(search.first_rung),
        "reduction_factor": f"{search.budget.reduction_factor:g}",
        **{f"space.{key}": str(dimension) for key, dimension in search.space.items()},
    }
    if finished:
        metrics["winner_validation_accuracy_percent"] = 100 * (finished[0].accuracy or 0.0)
        tags |= {"winner": str(finished[0].configuration), "found": found}
        tags |= {f"winner.{key}": json.dumps(value) for key, value in finished[0].configuration.values.items()}
    left = counts["partial"] + counts["new"]
    return Content(
        identity=search.identity,
        name=f"{search.row.id} search ({search.scale})",
        digest=content_digest(CONTENT_VERSION, json.dumps([metrics, tags], sort_keys=True)),
        status="RUNNING" if left else "FINISHED" if finished else "FAILED",
        tags=tags,
        metrics=tuple(Point(name, float(value), now) for name, value in metrics.items()),
    )


def configuration_content(search: Search, one: Judged) -> Content:
    """Return the run of one configuration that has ended."""
    spec = one.configuration.spec
    folder = Store(search.results_dir).folder(spec)
    metrics, started, finished = _times(one, search)
    flat = {"seed": spec.seed, **flatten(spec.recipe)}
    params = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items()}
    tags = {
        "trial_id": spec.trial_id,
        "fingerprint": spec.fingerprint,
        "scale": spec.scale,
        "standing": one.standing,
        "epochs_done": str(one.epochs_done),
        "configuration": str(one.configuration),
    }
    if one.reason:
        tags["reason"] = one.reason
    if one.record is not None and one.record.provenance is not None:
        tags |= {"commit": one.record.provenance.commit, "device": one.record.provenance.device}
        tags["mlflow.source.git.commit"] = one.record.provenance.commit
    settled = [one.standing, one.epochs_done, one.accuracy, one.reason, [point.value for point in metrics]]
    files = folder if one.standing == "finished" else work_folder(folder)
    return Content(
        identity=spec.trial_id,
        name=f"{one.configuration.index}: {one.configuration}",
        digest=content_digest(CONTENT_VERSION, json.dumps([settled, params, tags], sort_keys=True)),
        status="FAILED" if one.standing == "failed" else "FINISHED",
        tags=tags,
        params=shorten(params, LONGEST_PARAM),
        metrics=tuple(metrics),
        folder=files if (files / LOG_FILE).is_file() else None,
        started=started,
        finished=finished,
    )


def _times(one: Judged, search: Search) -> tuple[list[Point], int, int]:
    """Return the epochs as metrics, and when the configuration began and ended (milliseconds since 1970)."""
    folder = Store(search.results_dir).folder(one.configuration.spec)
    curve = read_curve(folder)
    started = curve.started
    if one.record is not None and one.record.provenance is not None:
        started = milliseconds(one.record.provenance.started_at)
    stopped = read_stopped(folder)
    points = list(epoch_points([line.model_dump() for line in curve.epochs], started, _METRICS))
    last = max((point.time for point in points), default=started)
    return points, started, max(last, stopped.time if stopped else last)
