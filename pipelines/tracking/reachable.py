"""Whether the tracker can be reached. Loads MLflow only for a server."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dnw_core.errors import UserError
from pipelines.text import one_line
from pipelines.tracking.addresses import resolve_uri, sqlite_path, without_password

REACH_SECONDS = 18.0
_SQLITE_MAGIC = b"SQLite format 3\0"

# a server that is down must not delay anything for long; the user's own settings take precedence
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would break the live table
}


def set_timeouts() -> None:
    """Set MLflow's timeouts and retries low for this process, before mlflow is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def check_reachable(uri: str | None, results_dir: Path) -> None:
    """Check, within 20 s, that the tracker can be written to.

    Raises:
        UserError: one line that says what is wrong with it.
    """
    full = resolve_uri(uri, results_dir)
    path = sqlite_path(full)
    if path is not None:
        _check_file(path)
        return
    shown = without_password(full)
    trouble = _within(REACH_SECONDS, lambda: _ask(full))
    if trouble is not None:
        raise UserError(
            f"the tracking server {shown} cannot be used: {trouble}; leave --tracking-uri out to use the results folder"
        )


def _check_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("r+b") as file:
                head = file.read(len(_SQLITE_MAGIC))
            if head and head != _SQLITE_MAGIC:
                raise UserError(f"{path} is not a SQLite database; give another --tracking-uri, or move the file away")
            with contextlib.closing(sqlite3.connect(path, timeout=5)) as connection:
                connection.execute("PRAGMA user_version").fetchone()
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise UserError(f"the tracker's file {path} cannot be written ({error.strerror or error})") from None
    except sqlite3.Error as error:
        raise UserError(f"the tracker's file {path} cannot be used as a database ({error})") from None


def _ask(uri: str) -> str | None:
    """Return why a server cannot be used, or None."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((unquote(parts.hostname or ""), port), timeout=5).close()
        except OSError as error:
            return str(error.strerror or error)
    set_timeouts()
    from mlflow.tracking import MlflowClient

    try:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:  # requests, SQLAlchemy and MLflow each have their own
        return first_line(error)
    return None


def _within(seconds: float, ask: Callable[[], str | None]) -> str | None:
    """Return what ``ask`` returns, or that there was no answer in time (a name server may take minutes)."""
    answer: list[str | None] = []
    thread = threading.Thread(target=lambda: answer.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else f"no answer within {seconds:.0f} s"


def first_line(error: BaseException) -> str:
    """Return an error as one line of a readable length.

    A connection that failed is wrapped several times on its way up; what the operating system said is what helps.
    """
    cause: BaseException | None = error
    for _ in range(20):  # a chain may have a circle
        if cause is None:
            break
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        reason = getattr(cause, "reason", None)  # how urllib3 keeps the cause beside the chain
        cause = cause.__cause__ or cause.__context__ or (reason if isinstance(reason, BaseException) else None)
    return one_line(error)
