"""The default folders of data and decoded images (XDG base directory specification)."""

from __future__ import annotations

import os
from pathlib import Path

from dnw_core.errors import UserError

PROJECT_FOLDER = "dnw-reproduction"


def default_data_dir() -> Path:
    """Return ``$XDG_DATA_HOME/dnw-reproduction`` (``~/.local/share/dnw-reproduction``)."""
    return _user_folder("XDG_DATA_HOME", ".local/share") / PROJECT_FOLDER


def default_cache_dir() -> Path:
    """Return ``$XDG_CACHE_HOME/dnw-reproduction`` (``~/.cache/dnw-reproduction``)."""
    return _user_folder("XDG_CACHE_HOME", ".cache") / PROJECT_FOLDER


def _user_folder(variable: str, below_home: str) -> Path:
    given = Path(os.environ.get(variable, ""))
    if given.is_absolute():  # the specification: ignore the variable when it is empty or relative
        return given
    try:
        return Path.home() / below_home
    except RuntimeError:  # a container's user without an entry in the password file
        raise UserError(f"this user has no home folder; set {variable} to an absolute path") from None
