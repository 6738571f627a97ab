"""The mirror of the results in MLflow."""

from pipelines.tracking.addresses import sqlite_uri
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.content import (
    CONTENT_VERSION,
    EPOCH_METRICS,
    LONGEST_PARAM,
    Content,
    Point,
    content_digest,
    epoch_points,
    milliseconds,
    shorten,
)
from pipelines.tracking.process import TrackerProcess
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.runs import RowRuns
from pipelines.tracking.tracker import SyncOutcome, Tracker, describe

__all__ = [
    "CONTENT_VERSION",
    "EPOCH_METRICS",
    "LONGEST_PARAM",
    "BackgroundSync",
    "Content",
    "Point",
    "RowRuns",
    "SyncOutcome",
    "Tracker",
    "TrackerProcess",
    "check_reachable",
    "content_digest",
    "describe",
    "epoch_points",
    "milliseconds",
    "shorten",
    "sqlite_uri",
]
