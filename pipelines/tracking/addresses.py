"""Addresses made of paths, and paths read from addresses.

A folder may be called anything: Jenkins names workspaces ``job%2Fmain``. In an address ``%2F`` is a slash, and from a
``?`` on nothing belongs to the path, so a path that is pasted into an address leads elsewhere without a word. Only
what is made here, or by ``Path.as_uri``, does not.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote


def sqlite_uri(path: Path, options: str = "") -> str:
    """Return the address of a SQLite file, which SQLAlchemy and MLflow open as this very path.

    Only what means something else there is quoted: MLflow also takes the address as it stands for a path, and makes
    that one's folders (``tracker_database.make_no_folders``).

    Args:
        path: made absolute.
        options: what follows the question mark.
    """
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{quoted}" + (f"?{options}" if options else "")


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite address's file; None for any other address."""
    match = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri, re.DOTALL)
    return Path(unquote(match[1])).absolute() if match else None


def sqlite_options(uri: str) -> str:
    """Return what follows the question mark of an address."""
    return uri.partition("?")[2]
