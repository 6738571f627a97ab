"""A process that was given up for lost trains on, and the trial is started again beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.faults.processes import kill, wait_for
from support.stubs.specs import TRAIN, spec

from dnw_core.task import Hooks
from pipelines.store.folder import Store
from pipelines.trial.run import LOCK_FILE, exclusive, run_spec

_TRAIN = """
import sys
from pathlib import Path
from support.stubs.specs import TRAIN, spec
from pipelines.trial.run import run_spec
record = run_spec(spec(Path(sys.argv[1]), epochs=100), train=TRAIN)
assert record is not None and record.status == "done", record
"""


def _start(results: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join((str(root / "tests"), str(root)))
    return subprocess.Popen([sys.executable, "-c", _TRAIN, str(results)], env={**os.environ, "PYTHONPATH": path})


def test_the_second_process_waits_and_finds_the_trial_done(tmp_path: Path) -> None:
    """Two processes with one trial: it is begun once, committed once and believed; no working folder is left."""
    store = Store.open(tmp_path, create=True)
    both = [_start(tmp_path), _start(tmp_path)]
    assert [process.wait(60) for process in both] == [0, 0]
    one = spec(tmp_path, epochs=100)
    assert store.state(one).kind == "done"
    assert len((store.folder(one) / "log.txt").read_text().splitlines()) == 1
    assert [path.name for path in store.folder(one).parent.iterdir()] == ["seed-0"]


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """Whoever waits for it goes on; who is told to stop meanwhile stops without having begun."""
    store = Store.open(tmp_path, create=True)
    slow = spec(tmp_path, epochs=100)
    first = _start(tmp_path)
    log = store.work_folder(slow) / "log.txt"
    wait_for("the trial to begin", lambda: log.exists() and log.stat().st_size > 0)  # it is there before its line is
    assert run_spec(slow, Hooks(should_stop=lambda: True), train=TRAIN) is None
    assert len(log.read_text().splitlines()) == 1
    kill(first.pid)
    first.wait()
    record = run_spec(slow, train=TRAIN)
    assert record is not None
    assert record.status == "done"
    assert len((store.folder(slow) / "log.txt").read_text().splitlines()) == 2


def test_a_folder_that_stays_taken_is_taken_over(tmp_path: Path) -> None:
    """A lock that never comes free (a machine that is gone for good) is waited for no longer than the limit."""
    with exclusive(tmp_path) as mine, exclusive(tmp_path, limit=0.1) as also:
        assert mine
        assert also
    assert not (tmp_path / LOCK_FILE).exists()
