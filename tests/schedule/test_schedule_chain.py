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
from support.stubs.command import no_tracker
from support.stubs.specs import TRAIN, spec
from support.stubs.training import RELEASED

import pipelines.schedule
from pipelines.schedule import run as schedule
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store

pytestmark = pytest.mark.slow
HERE = Path(__file__).parents[1]


def _began(store: Store, one: TrialSpec) -> list[str]:
    return (store.folder(one) / "log.txt").read_text().splitlines()


@pytest.mark.usefixtures("ray_session")
def test_children_follow_their_own_parents(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A child starts while another long trial still runs; what a failed or given up trial blocks never starts.

    A child whose parent is not believed when it starts is blocked in the worker: not trained, and not recorded.
    """
    store = Store.open(tmp_path, create=True)
    held = spec(tmp_path, "held", epochs=5, cpus=0.5)
    parents = [spec(tmp_path, "ok", seed, cpus=0.5) for seed in (0, 1)]
    children = [spec(tmp_path, "child", cpus=0.5, parent=parent) for parent in parents]
    grandchild = spec(tmp_path, "dies-once-grandchild", cpus=0.5, parent=children[0])
    bad = spec(tmp_path, "fails", cpus=0.5)
    bad_child = spec(tmp_path, "child-of-bad", cpus=0.5, parent=bad)
    orphan = spec(tmp_path, "orphan", cpus=0.5, parent=spec(tmp_path, "absent"))
    lost = [
        bad_child,
        spec(tmp_path, "grandchild-of-bad", cpus=0.5, parent=bad_child),
        orphan,
        spec(tmp_path, "child-of-orphan", cpus=0.5, parent=orphan),
    ]
    finished: list[str] = []

    def on_finished(one: TrialSpec) -> None:
        finished.append(one.trial_id)
        if {trial.trial_id for trial in (*children, grandchild, bad)} <= set(finished):
            (tmp_path / RELEASED).touch()

    outcome = schedule.run_schedule(
        [held, *lost, grandchild, *children, bad, *parents],
        store=store,
        on_finished=on_finished,
        train=TRAIN,
    )
    assert outcome == schedule.ScheduleOutcome(done=6, failed=1, left=4, interrupted=False)
    place = {trial_id: number for number, trial_id in enumerate(finished)}
    for parent, child in zip(parents, children, strict=True):
        assert place[parent.trial_id] < place[child.trial_id] < place[held.trial_id]
        assert _began(store, child)[0].endswith(f"from {store.folder(parent)}")
    assert place[grandchild.trial_id] < place[held.trial_id]
    assert len(_began(store, grandchild)) == 2, "the killed trial should have begun exactly twice"
    assert [store.state(one).kind for one in lost] == ["new"] * 4
    assert not {one.trial_id for one in lost} & set(finished)
    out, err = capfd.readouterr()
    assert err == ""
    assert "stub/child-of-bad seed 0 not started: blocked by stub/fails seed 0 (failed: the loss is nan" in out
    assert "stub/grandchild-of-bad seed 0 not started: blocked by stub/child-of-bad seed 0 (blocked by stub/" in out


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


@pytest.mark.usefixtures("ray_session")
def test_the_command_ends_with_1_when_a_parent_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From --only to the exit code: the parent joins, fails, blocks what starts from it, and the rest is done."""
    import reports
    from pipelines.commands import reproduce_all as cli
    from tune_configs import load_tables

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "stub.yaml").write_text(TABLE)
    monkeypatch.setattr(cli, "load_tables", lambda: load_tables(tmp_path / "tables"))
    monkeypatch.setattr(pipelines.schedule, "run_schedule", functools.partial(schedule.run_schedule, train=TRAIN))
    no_tracker(monkeypatch)
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
    assert "warning: the report has no cost table, because the networks could not be counted (error: " in said
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
from schedule.test_schedule_chain import run_what_is_left
run_what_is_left(Path(sys.argv[1]))
"""


def run_what_is_left(results: Path) -> schedule.ScheduleOutcome:
    """Run a parent and its child, as far as they are not done."""
    store = Store.open(results, create=True)
    parent = spec(results, "ok")
    specs = [one for one in (parent, spec(results, "held-child", parent=parent)) if store.state(one).kind != "done"]
    return schedule.run_schedule(specs, store=store, train=TRAIN)


@pytest.mark.faults
@pytest.mark.usefixtures("ray_session")
def test_a_killed_driver_goes_on_with_the_child(tmp_path: Path) -> None:
    """After SIGKILL of the driver the next one trains the child only; its parent is not trained twice."""
    results = tmp_path / "results"
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(results)],
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"},
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    begun: list[str] = []
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not begun:
            time.sleep(0.1)
            logs = results.glob("trials/stub/held-child/*/*.work/log.txt")
            begun = [log.read_text() for log in logs if "held-child" in log.read_text()]
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    worker = Path("/proc", begun[0].split()[1])  # "process 17 begins ..."
    until = time.monotonic() + 60
    while time.monotonic() < until and worker.exists():
        time.sleep(0.1)
    assert not worker.exists(), "the killed driver's worker lives on"
    (results / RELEASED).touch()
    assert run_what_is_left(results) == schedule.ScheduleOutcome(done=1, failed=0, left=0, interrupted=False)
    log = next(results.glob("trials/stub/ok/*/seed-0/log.txt")).read_text()
    assert log.count("begins ok seed 0") == 1
    log = next(results.glob("trials/stub/held-child/*/seed-0/log.txt")).read_text()
    assert log.count("begins held-child seed 0 from ") == 2
