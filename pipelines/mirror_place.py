"""Where the copy of results that lie in a bucket is kept on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dnw_core.data.folders import default_cache_dir


def mirror_folder(uri: str) -> Path:
    """Return the folder for the copy of ``uri``: always the same, below the user's cache folder."""
    name = uri.rpartition("/")[2] or "results"
    digest = hashlib.sha256(uri.encode()).hexdigest()[:12]
    return default_cache_dir() / "results" / f"{name}-{digest}"
