"""Two drivers at once on one results folder: one works, the other says who does."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.faults.command import TRIALS, command
from support.faults.proof import check_results

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_two_drivers_at_once(tmp_path: Path, reference: Path) -> None:
    """Started together: one trains everything, the other ends with exit code 2 and the first one's process."""
    results = tmp_path / "results"
    with command(results) as one, command(results) as other:
        codes = {one.wait(): one, other.wait(): other}
        assert sorted(codes) == [0, 2], one.said + other.said
        assert f"{TRIALS} of {TRIALS} trials done, 0 failed, 0 missing" in codes[0].said
        assert f"is in use by process {codes[0].process.pid} on " in codes[2].said
        assert "Traceback" not in codes[2].said
    check_results(results, reference, 0)
