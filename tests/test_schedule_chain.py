"""Ray itself, with trials that start from others: at once after their own parent, never after one that failed."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stub_specs import TRAIN, spec

from pipelines import schedule
from pipelines.spec import TrialSpec
from pipelines.store import Store

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def _began(store: Store, one: TrialSpec) -> list[str]:
    return (store.folder(one) / "log.txt").read_text().splitlines()


def test_children_follow_their_own_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A child starts while another long trial still runs; what a failed or given up trial blocks never starts."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    store = Store.open(tmp_path, create=True)
    slow = spec(tmp_path, "slow", epochs=5, cpus=0.5)
    parents = [spec(tmp_path, "ok", seed, cpus=0.5) for seed in (0, 1)]
    children = [spec(tmp_path, "child", cpus=0.5, parent=parent) for parent in parents]
    grandchild = spec(tmp_path, "dies-once-grandchild", cpus=0.5, parent=children[0])
    bad = spec(tmp_path, "fails", cpus=0.5)
    bad_child = spec(tmp_path, "child-of-bad", cpus=0.5, parent=bad)
    lost = [bad_child, spec(tmp_path, "grandchild-of-bad", cpus=0.5, parent=bad_child)]
    finished: list[str] = []
    outcome = schedule.run(
        [slow, *lost, grandchild, *children, bad, *parents],
        store=store,
        show="plain",
        on_finished=lambda one: finished.append(one.trial_id),
        train=TRAIN,
    )
    assert outcome == schedule.ScheduleOutcome(done=6, failed=1, left=2, interrupted=False)
    place = {trial_id: number for number, trial_id in enumerate(finished)}
    for parent, child in zip(parents, children, strict=True):
        assert place[parent.trial_id] < place[child.trial_id] < place[slow.trial_id]
        assert _began(store, child)[0].endswith(f"from {store.folder(parent)}")
    assert place[grandchild.trial_id] < place[slow.trial_id]
    assert len(_began(store, grandchild)) == 2, "the killed trial should have begun exactly twice"
    assert [store.state(one).kind for one in lost] == ["new", "new"]
    assert not {one.trial_id for one in lost} & set(finished)
    out, err = capfd.readouterr()
    assert err == ""
    assert "stub/child-of-bad seed 0 not started: blocked by stub/fails seed 0 (failed: the loss is nan" in out
    assert "stub/grandchild-of-bad seed 0 not started: blocked by stub/child-of-bad seed 0 (blocked by stub/" in out


def test_a_parent_that_is_not_believed_blocks_in_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child whose parent is damaged when it starts is not trained and not recorded; the others go on."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    store = Store.open(tmp_path, create=True)
    child = spec(tmp_path, "child", parent=spec(tmp_path, "absent"))
    grandchild = spec(tmp_path, "grandchild", parent=child)
    outcome = schedule.run([grandchild, child, spec(tmp_path, "ok")], store=store, show="none", train=TRAIN)
    assert outcome == schedule.ScheduleOutcome(done=1, failed=0, left=2, interrupted=False)
    assert [store.state(one).kind for one in (child, grandchild)] == ["new", "new"]


TABLE = """\
id: stub
title: Stubs
source: a test
recipe:
  network: {kind: tiny-static}
  data: {dataset: digits}
  schedule: {kind: cosine}
  epochs: 2
  batch_size: 8
default_seeds: {smoke: 1}
rows:
  fails: {label: A, extra: true, recipe: {wiring: {rule: complete}}}
  child: {label: B, extra: true, needs: fails, recipe: {wiring: {rule: fine-tune, density: 0.1}}}
  grandchild: {label: C, extra: true, needs: child, recipe: {wiring: {rule: fine-tune, density: 0.1}}}
  ok: {label: D, extra: true, recipe: {wiring: {rule: top-edges, density: 0.1}}}
"""


def test_the_command_ends_with_1_when_a_parent_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From --only to the exit code: the parent joins, fails, blocks what starts from it, and the rest is done."""
    import reports
    from pipelines import cli, tracker
    from tune_configs import load_tables

    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "stub.yaml").write_text(TABLE)
    monkeypatch.setattr(cli, "load_tables", lambda: load_tables(tmp_path / "tables"))
    monkeypatch.setattr(schedule, "run", functools.partial(schedule.run, train=TRAIN))
    monkeypatch.setattr(tracker.Tracker, "sync", lambda self, rows: SimpleNamespace(error=None))
    shown: list[dict[str, Any]] = []

    def report(results_dir: Path, rows: list[dict[str, Any]], **_: Any) -> SimpleNamespace:
        shown.extend(rows)
        return SimpleNamespace(markdown=results_dir / "results.md")

    monkeypatch.setattr(reports, "build_report", report)
    assert cli.main(["--only", "stub/grandchild", "--only", "stub/ok", "--device", "cpu"]) == 1
    said = capsys.readouterr().out
    assert "stub/grandchild seed 0 not started: blocked by stub/child seed 0 (blocked by stub/fails seed 0" in said
    assert "1 of 4 trials done, 1 failed, 2 missing (2 of them blocked)" in said
    # the stub's table is none of ours: its networks cannot be counted, and the report is made all the same
    assert "warning: the cost table is left out of the report, its networks could not be counted (error: " in said
    reason = "blocked by stub/fails seed 0 (failed: the loss is nan at epoch 0, step 3)"
    blocked = {row["row"]: row["blocked"] for row in shown}
    assert blocked == {
        "fails": None,
        "child": reason,
        "grandchild": f"blocked by stub/child seed 0 ({reason})",
        "ok": None,
    }


_DRIVER = """
import sys
from pathlib import Path
from stub_specs import TRAIN, spec
from pipelines import schedule
from pipelines.store import Store
results = Path(sys.argv[1])
store = Store.open(results, create=True)
parent = spec(results, "ok")
specs = [one for one in (parent, spec(results, "slow-child", parent=parent)) if store.state(one).kind != "done"]
print(schedule.run(specs, store=store, show="plain", train=TRAIN))
"""


def test_a_killed_driver_goes_on_with_the_child(tmp_path: Path) -> None:
    """After SIGKILL of the driver the next one trains the child only; its parent is not trained twice."""
    results = tmp_path / "results"
    command = [sys.executable, "-c", _DRIVER, str(results)]
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True, **quiet)  # type: ignore[call-overload]
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(results.glob("trials/stub/slow-child/*/*.work/log.txt")):
            time.sleep(0.1)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    second = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "ScheduleOutcome(done=1, failed=0, left=0, interrupted=False)" in second.stdout, second.stderr
    log = next(results.glob("trials/stub/ok/*/seed-0/log.txt")).read_text()
    assert log.count("begins ok seed 0") == 1
    log = next(results.glob("trials/stub/slow-child/*/seed-0/log.txt")).read_text()
    assert log.count("begins slow-child seed 0 from ") == 2
