"""Ray's own processes on one machine of a cluster, by ``ray start``, and the token that lets others join."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.faults.processes import MARK, default_signals, wait_for


def token_variables(folder: Path) -> dict[str, str]:
    """Make a token in the folder; return the variables with which a command joins what was started with it."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def start_ray(
    folder: Path, mark: str, words: Sequence[str], variables: Mapping[str, str], prefix: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Run ``ray start --block`` with these words after the prefix, and return its process when Ray is up.

    The folder is the machine's own, as its disk is; its name must be short, for the sockets in it. All processes of the
    machine have the mark.
    """
    said = folder / "said"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--temp-dir={folder}", *words]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    with said.open("wb") as file:
        starting = subprocess.Popen(
            [*prefix, *start, "--object-store-memory=100000000"],
            stdout=file,
            stderr=file,
            env={**os.environ, **quiet, "RAY_TMPDIR": str(folder), MARK: mark, **variables},
            start_new_session=True,
            preexec_fn=default_signals,
        )

    def up() -> bool:
        assert starting.poll() is None, said.read_text()
        return "Ray runtime started" in said.read_text()

    wait_for(f"Ray to start with {' '.join(words)}", up)
    return starting
