"""MLflow's SQLite file: there as a whole or not at all.

MLflow makes its tables one after another, for seconds, and each change stands by itself: a process that is killed
meanwhile leaves a file that no later MLflow can open ("duplicate column name ..."). A run that ends at once, with
Ctrl-C or a mistake, kills its tracker just then. So the file is made elsewhere and linked to its place.
"""

from __future__ import annotations

import functools
import os
import re
import uuid
from pathlib import Path

from dnw_core.files import write_bytes
from pipelines.private_folder import private_folder
from pipelines.tracking.addresses import sqlite_uri

_UNUSABLE = re.compile(
    r"duplicate column name|(table|index) \S+ already exists|no such (table|column)|malformed|not a database|"
    "database schema|locate revision",
    re.IGNORECASE,
)


def make_database(path: Path) -> None:
    """Make an MLflow database with nothing in it, where there is none. An empty file counts as none.

    Two processes may do so at once: one of them makes it, both find it.

    Raises:
        OSError: if it cannot be written.
        Exception: whatever MLflow and SQLAlchemy raise.
    """
    path = Path(os.path.realpath(path))  # a link to another disk stays one
    if _is_there(path):
        return
    content = empty_database()
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write_bytes(made, content)
        if _is_there(path):
            return
        for ending in ("-journal", "-wal", "-shm"):  # of a removed database: SQLite would apply them to this one
            path.with_name(path.name + ending).unlink(missing_ok=True)
        try:
            os.link(made, path)
        except OSError:  # another process was quicker; or an empty file, or a file system without links
            if not _is_there(path):
                made.replace(path)
    finally:
        made.unlink(missing_ok=True)


@functools.cache
def empty_database() -> bytes:
    """Return the content of a fresh MLflow database (made once a process: MLflow never lets go of a file)."""
    with private_folder("dnw-mlflow-") as folder:
        from mlflow.tracking import MlflowClient

        make_no_folders()
        MlflowClient(tracking_uri=sqlite_uri(folder / "made.db")).search_experiments(max_results=1)
        return (folder / "made.db").read_bytes()


def make_no_folders() -> None:
    """Keep MLflow in this process from making folders for a SQLite file.

    It makes those of the address as written, quotes and all: beside ``job%2Fmain`` an empty ``job%252Fmain``. The
    file's own folder exists by then.
    """
    from mlflow.store.db import utils

    if hasattr(utils, "_make_parent_dirs_if_sqlite"):
        utils._make_parent_dirs_if_sqlite = lambda uri: None


def _is_there(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def explain(error: str, path: Path | None) -> str:
    """Return what to do about a database that MLflow cannot open; any other error as it is.

    Args:
        error: its first line.
        path: the SQLite file, if it is one.
    """
    if path is None or not _UNUSABLE.search(error):
        return error
    return (
        f"{path} is incomplete, damaged, or of another version of MLflow ({error}); "
        "move it away, and it is made again from the results"
    )
