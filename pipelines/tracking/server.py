"""Where the tracker is: the address in its full form, and whether it can be reached. Loads mlflow only for a server."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dnw_core.errors import UserError
from pipelines.tracking.addresses import sqlite_options, sqlite_path, sqlite_uri

REACH_SECONDS = 18.0
_DATABASES = ("postgresql", "mysql", "mssql")
_EXAMPLES = "sqlite:////absolute/path/mlflow.db or http://127.0.0.1:5000"
_SQLITE_MAGIC = b"SQLite format 3\0"

# a server that is away must not hold anything up for long; what the user has set stays
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a line in the middle of the live table
}


def be_impatient() -> None:
    """Set MLflow's timeouts and retries low for this process, before mlflow is imported."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


def default_uri(results_dir: Path) -> str:
    """Return the address of the tracker inside a results folder."""
    return sqlite_uri(results_dir.resolve() / "mlflow" / "mlflow.db")


def resolve_uri(uri: str | None, results_dir: Path) -> str:
    """Return the address with absolute paths; None is the tracker inside the results folder.

    Raises:
        UserError: if it is of a kind that is not supported.
    """
    if uri is None or not uri.strip():
        return default_uri(results_dir)
    uri = uri.strip()
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if scheme in ("http", "https"):
        try:
            port_is_fine = urlsplit(uri).port != 0
        except ValueError:
            port_is_fine = False
        if not (urlsplit(uri).hostname and port_is_fine):
            raise UserError(f"--tracking-uri {uri!r} is not an address; give for example http://127.0.0.1:5000")
        return uri.rstrip("/")
    if scheme == "sqlite" and (path := sqlite_path(uri)) is not None:
        _refuse_unquoted(uri, path)
        return sqlite_uri(path, sqlite_options(uri))
    if scheme in _DATABASES and "://" in uri:
        return uri
    if scheme in ("file", "") or "://" not in uri:
        raise UserError(f"--tracking-uri {uri!r}: MLflow has given up plain folders; give {_EXAMPLES}")
    raise UserError(f"--tracking-uri {uri!r} is of an unknown kind; give {_EXAMPLES}")


def _refuse_unquoted(uri: str, path: Path) -> None:
    """Refuse a path that was pasted into an address and means another one there."""
    pasted = Path(uri.removeprefix("sqlite:///")).absolute()
    meant = f"write {sqlite_uri(pasted)} for {pasted}"
    options = sqlite_options(uri)
    if options and "=" not in options:
        raise UserError(f"--tracking-uri {uri!r}: a ? ends the path of an address; {meant}")
    if pasted != path and not options and pasted.parent.is_dir() and not path.parent.is_dir():
        raise UserError(f"--tracking-uri {uri!r} means {path}, which is not there; {meant}")


def artifact_root(uri: str, results_dir: Path) -> Path | None:
    """Return where artifacts go: beside a SQLite file, in the results folder for a database; None: a server decides."""
    if uri.startswith(("http://", "https://")):
        return None
    path = sqlite_path(uri)
    return (path.parent if path else results_dir.resolve() / "mlflow") / "artifacts"


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
            f"the tracking server {shown} cannot be used: {trouble}; leave --tracking-uri out to do without"
        )


def without_password(uri: str) -> str:
    """Return the address without the credentials it may carry."""
    return re.sub(r"//[^/@]*@", "//***@", uri)


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
    """Return what is wrong with a server, or None."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((unquote(parts.hostname or ""), port), timeout=5).close()
        except OSError as error:
            return str(error.strerror or error)
    be_impatient()
    from mlflow.tracking import MlflowClient

    try:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except Exception as error:  # requests, SQLAlchemy and MLflow each have their own
        return first_line(error)
    return None


def _within(seconds: float, ask: Callable[[], str | None]) -> str | None:
    """Return what ``ask`` says, or that it did not answer in time (a name server may take minutes)."""
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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
