"""What the tests of faults share: a seed that repeats a failure, and the undisturbed run."""

from __future__ import annotations

import fcntl
import os
import random
import secrets
from pathlib import Path

import pytest
from support.faults.command import complete

_SEED = "DNW_FAULT_SEED"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Draws the moments of the harm; set DNW_FAULT_SEED to the number that a failed test printed to repeat it."""
    seed = os.environ.get(_SEED) or str(secrets.randbelow(10**6))
    print(f"{_SEED}={seed}")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the undisturbed run, trained once for all of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    results = base / "reference"
    with (base / "reference.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (results / "results.parquet").exists():
            complete(results)
    return results
