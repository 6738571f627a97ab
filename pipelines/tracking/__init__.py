"""The mirror of the results in MLflow."""

from pipelines.tracking.addresses import sqlite_uri
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.content import (
    CONTENT_VERSION,
    LONGEST_PARAM,
    Content,
    Point,
    content_digest,
    milliseconds,
    shorten,
)
from pipelines.tracking.process import TrackerBeside
from pipelines.tracking.runs import RowRuns
from pipelines.tracking.server import check_reachable
from pipelines.tracking.tracker import SyncOutcome, Tracker, describe

__all__ = [
    "CONTENT_VERSION",
    "LONGEST_PARAM",
    "BackgroundSync",
    "Content",
    "Point",
    "RowRuns",
    "SyncOutcome",
    "Tracker",
    "TrackerBeside",
    "check_reachable",
    "content_digest",
    "describe",
    "milliseconds",
    "shorten",
    "sqlite_uri",
]
