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

_HALF_MADE = re.compile(
    "duplicate column name|already exists|no such (table|column)|malformed|not a database|database schema|"
    "locate revision",
    re.IGNORECASE,
)


def make_database(path: Path) -> None:
    """Make an MLflow database with nothing in it, where there is none. An empty file is none.

    Two processes may do so at once: one of them makes it, both find it.

    Raises:
        OSError: if it cannot be written.
        Exception: whatever MLflow and SQLAlchemy come up with.
    """
    if _is_there(path):
        return
    from mlflow.tracking import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with private_folder("dnw-mlflow-") as folder:
        made = folder / "made.db"
        MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments(max_results=1)
        here = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            shutil.copyfile(made, here)
            sync(here)
            _put(here, path)
        finally:
            here.unlink(missing_ok=True)


def _put(made: Path, path: Path) -> None:
    """Give the file its name, unless another one has got it meanwhile."""
    if not _is_there(path):
        path.unlink(missing_ok=True)
    try:
        os.link(made, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not _is_there(path):
            made.rename(path)
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
