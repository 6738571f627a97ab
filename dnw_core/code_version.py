"""Which code this is: the git commit of the checkout that runs. Free of torch, since the driver asks too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# set by the driver where trials run without the git checkout (nodes of a cluster)
COMMIT_VARIABLE = "DNW_COMMIT"


def code_version() -> tuple[str, bool]:
    """Return the git commit of the code and whether the checkout differs from it; ("unknown", False) without git."""
    told = os.environ.get(COMMIT_VARIABLE)
    if told:
        return told.removesuffix("+dirty"), told.endswith("+dirty")
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "unknown", False
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False
    return commit, dirty


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()  # noqa: S603
