"""MLflow's SQLite file: there as a whole or not at all.

MLflow makes its tables one after another, for seconds, and each change stands by itself: a process that is killed
meanwhile leaves a file that no later MLflow can open ("duplicate column name ..."). A run that ends at once, with
Ctrl-C or a mistake, kills its tracker just then. So the file is made elsewhere and linked to its place.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from pathlib import Path

from dnw_core.files import sync
from pipelines.private_folder import private_folder
from pipelines.tracking.addresses import sqlite_uri

_HALF_MADE = re.compile(
    r"duplicate column name|(table|index) \S+ already exists|no such (table|column)|malformed|not a database|"
    "database schema|locate revision",
    re.IGNORECASE,
)


def make_database(path: Path) -> None:
    """Make an MLflow database with nothing in it, where there is none. An empty file is none.

    Two processes may do so at once: one of them makes it, both find it.

    Raises:
        OSError: if it cannot be written.
        Exception: whatever MLflow and SQLAlchemy come up with.
    """
    path = Path(os.path.realpath(path))  # a link to another disk stays one
    if _is_there(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with private_folder("dnw-mlflow-") as folder:
        made = folder / "made.db"
        _let_mlflow_make(made)
        here = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            shutil.copyfile(made, here)
            sync(here)
            _put(here, path)
        finally:
            here.unlink(missing_ok=True)


def make_no_folders() -> None:
    """Keep this process's MLflow from making folders for a SQLite file.

    It makes those of the address as it stands, quotes and all: beside ``job%2Fmain`` a ``job%252Fmain`` with nothing
    in it. The file's own folder is there by then.
    """
    from mlflow.store.db import utils

    if hasattr(utils, "_make_parent_dirs_if_sqlite"):
        utils._make_parent_dirs_if_sqlite = lambda uri: None


def _let_mlflow_make(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking import MlflowClient

    make_no_folders()
    address = sqlite_uri(path)
    try:
        MlflowClient(tracking_uri=address).search_experiments(max_results=1)
    finally:
        # MLflow keeps a connection to every address it was given, and with it a file that is deleted
        engine = getattr(SqlAlchemyStore, "_engine_map", {}).pop(address, None)
        if engine is not None:
            engine.dispose()


def _put(made: Path, path: Path) -> None:
    """Give the file its name, unless another one has got it meanwhile."""
    if _is_there(path):
        return
    for ending in ("-journal", "-wal", "-shm"):  # of one that was taken away: SQLite would apply them to this one
        path.with_name(path.name + ending).unlink(missing_ok=True)
    try:
        os.link(made, path)
    except OSError:  # a file system without links, or an empty file
        if not _is_there(path):
            made.replace(path)
    with contextlib.suppress(OSError):
        sync(path.parent)


def _is_there(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def in_words(error: str, path: Path | None) -> str:
    """Return what to do about a database that MLflow cannot open; any other error as it is.

    Args:
        error: its first line.
        path: the SQLite file, if it is one.
    """
    if path is None or not _HALF_MADE.search(error):
        return error
    return f"{path} is half made, damaged, or of another MLflow ({error}); moved away, it is made anew from the results"
