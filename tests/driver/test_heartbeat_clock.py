"""No wall clock decides anything: whoever reads one is listed here, with what it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dnw_core.files import write_text
from dnw_core.training.workers.restarts import _checkpoint_mark
from pipelines.store.verify import KnownHashes

ROOT = Path(__file__).resolve().parents[2]
READS = re.compile(
    r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\(|\bdate\.today\(|\btime\.(localtime|gmtime)\("
)

SHOWN = {
    "dnw_core/training/checkpoints/results.py": "when a trial's progress was written",
    "dnw_core/training/checkpoints/trial_log.py": "in front of a log's line",
    "pipelines/storage/bucket/trials.py": "in names, with a random part",
    "pipelines/driver/detach.py": "in front of a log's line",
    "pipelines/driver/heartbeat.py": "when a driver began and spoke; what tells whether it lives is a count",
    "pipelines/cluster/ray_internals.py": "told to Ray's autoscaler",
    "pipelines/driver/lock.py": "when the lock's owner began",
    "pipelines/hpo/result.py": "the date in a file that was found",
    "pipelines/driver/status.py": "an age; an old one is watched before anybody is given up",
    "pipelines/store/layout.py": "in the name of what is set aside, with a random part",
    "pipelines/tracking/tracker.py": "points of time in the tracker",
    "pipelines/tracking/runs.py": "points of time in the tracker",
    "reports/build.py": "when the report was written",
}
DECIDES_SAFELY = {"pipelines/store/verify.py": "remembers no young file; a look alone believes it, the next tests tell"}


def test_every_reader_of_the_wall_clock_is_known() -> None:
    """One that is new has to say what it is for, and to decide by ``time.monotonic``, counts or contents instead."""
    found = {
        str(path.relative_to(ROOT))
        for room in ("dnw_core", "pipelines", "reports", "tune_configs")
        for path in (ROOT / room).rglob("*.py")
        if READS.search(path.read_text("utf-8"))
    }
    assert found == {*SHOWN, *DECIDES_SAFELY}


@pytest.mark.parametrize("jump_seconds", [10**9, -(10**9)])
def test_a_jump_makes_no_changed_file_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump_seconds: int
) -> None:
    """Forwards, a file that was just written counts as settled, backwards none does; a change is seen either way."""
    import time

    file = tmp_path / "weights"
    file.write_text("first")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump_seconds * 10**9)
    hashes = KnownHashes(tmp_path, trust=False)
    before = hashes.sha256(file)
    hashes.save()
    assert KnownHashes(tmp_path, trust=True).sha256(file) == before
    file.write_text("other")
    assert KnownHashes(tmp_path, trust=True).sha256(file) != before


def test_a_new_checkpoint_is_new_by_a_clock_that_stands_still(tmp_path: Path) -> None:
    """Of the same size and the same time: a trial that makes progress is not taken for one that makes none."""
    import os

    def write(text: str) -> tuple[int, int, int] | None:
        write_text(tmp_path / "checkpoint.pt", text)
        os.utime(tmp_path / "checkpoint.pt", ns=(10**18, 10**18))
        return _checkpoint_mark(tmp_path)

    assert write("one") != write("two")
