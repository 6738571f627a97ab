"""The mirror of the results in MLflow."""

from pipelines.tracking.addresses import sqlite_uri
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.process import TrackerProcess
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.tracker import SyncOutcome, Tracker, describe
