"""The order of trials, and what is shown of a run."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console
from support.stubs.specs import TRAIN, spec
from support.stubs.store import interrupt

from dnw_core.record import PROGRESS_FILE
from pipelines.driver.display import LiveTable, PlainLines, describe_running, duration, make_display
from pipelines.driver.progress import Progress
from pipelines.driver.stopping import StopRequest
from pipelines.plan.planner import Plan
from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.run import epochs_before, longest_first
from pipelines.storage.staging import SharedFolder
from pipelines.store.folder import Store


def test_longest_rows_start_first() -> None:
    """Rows go by their estimated time, seeds in order; a row without an estimate goes before all others."""
    here = Path("/results")
    specs = [spec(here, row, seed) for seed in (1, 0) for row in ("short", "long", "unknown")]
    ordered = longest_first(specs, {("stub", "short"): 10.0, ("stub", "long"): 99.0})
    assert [(one.row, one.seed) for one in ordered] == [
        ("unknown", 0),
        ("unknown", 1),
        ("long", 0),
        ("long", 1),
        ("short", 0),
        ("short", 1),
    ]


def _progress() -> Progress:
    specs = [spec(Path("/results"), row, seed, epochs=10) for row in ("a", "b") for seed in (0, 1)]
    progress = Progress(specs, {("stub", "a"): 3}, {("stub", "b"): 100.0})
    ids = [one.trial_id for one in specs]
    progress.start(ids[0])
    progress.epoch(ids[0], 4, 0.75, 2.0)
    progress.start(ids[2])
    return progress


def test_rows_count_seeds_and_time() -> None:
    """A row counts what was done before; the time left is measured where epochs are known, else planned."""
    progress = _progress()
    a, b = progress.rows()
    assert (a.done, a.planned, a.running, a.epoch, a.accuracy) == (3, 5, 1, 4, 0.75)
    assert a.seconds_left == pytest.approx(2.0 * (6 + 10))
    assert b.seconds_left == pytest.approx(200.0)
    assert progress.seconds_left() == pytest.approx((32.0 + 200.0) / 2)


def test_ended_trials_leave_no_time() -> None:
    """Failed and finished trials ask for no more time, and a failed one's accuracy does not count."""
    progress = _progress()
    ids = list(progress.trials)
    progress.end(ids[0], "failed", reason="no")
    progress.end(ids[1], "done", accuracy=0.9)
    a = progress.rows()[0]
    assert (a.done, a.failed, a.accuracy, a.seconds_left) == (4, 1, 0.9, 0.0)


def test_plain_lines_say_each_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output is no terminal, each trial's end is one plain line, a failure with its reason."""
    progress = _progress()
    display = make_display(progress)
    assert isinstance(display, PlainLines)
    ids = list(progress.trials)
    progress.end(ids[0], "done", accuracy=0.9123)
    display.ended(progress.trials[ids[0]])
    progress.end(ids[2], "failed", reason="the loss is nan")
    display.ended(progress.trials[ids[2]])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("[1/4] stub/a seed 0 done: 91.23 % in ")
    assert second == "[2/4] stub/b seed 0 FAILED: the loss is nan"


def test_a_run_that_has_no_machine_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster that has lost its machines, or whose autoscaler starts none: it is told what the run waits for."""
    parent = spec(Path("/results"), "parent")
    trials = [parent, spec(Path("/results"), "other"), spec(Path("/results"), "child", parent=parent)]
    progress = Progress(trials)
    lines, table = PlainLines(progress), LiveTable(progress)
    lines._last -= 60
    lines.tick()
    said = "no trial is running: 2 waiting for a machine"
    assert capsys.readouterr().out == f"{said}; 1 waiting for a parent trial\n"
    assert said not in str(table._render().title), "it has only begun"
    table._ran -= 60
    assert said in str(table._render().title)
    progress.start(parent.trial_id)
    assert "machine" not in str(table._render().title)
    progress.end(parent.trial_id, "done", accuracy=0.5)
    assert "machine" not in str(table._render().title), "the next one comes in a moment"


def test_live_table_shows_rows() -> None:
    """The live table has a line a row: seeds done, epoch of the running trial, accuracy in percent."""
    table = LiveTable(_progress())
    console = Console(file=io.StringIO(), width=100)
    console.print(table._render())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    line = next(line for line in text.splitlines() if "stub/a" in line)
    for part in ("3/5", "4/10", "75.00"):
        assert part in line
    assert "0 of 4 trials done, about 2 min left" in text


def _chain() -> Progress:
    parent = spec(Path("/results"), "parent", epochs=10)
    child = spec(Path("/results"), "child", epochs=10, parent=parent)
    progress = Progress([parent, child], None, {("stub", "parent"): 100.0, ("stub", "child"): 60.0})
    progress.start(parent.trial_id)
    return progress


def test_waiting_children_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A row that waits says for which one, and the time left is that of the whole chain, however many machines."""
    progress = _chain()
    parent, child = progress.rows()
    assert (parent.waits_for, child.waits_for) == (None, "stub/parent")
    assert progress.seconds_left() == pytest.approx(160.0)
    lines = PlainLines(progress)
    lines._last -= 60
    lines.tick()
    assert "stub/parent seed 0 epoch 0/10; 1 waiting for a parent trial; about 3 min left" in capsys.readouterr().out
    console = Console(file=io.StringIO(), width=100)
    console.print(LiveTable(progress)._render())
    assert "after stub/parent" in console.file.getvalue()  # type: ignore[attr-defined]
    progress.end(next(iter(progress.trials)), "done")
    assert progress.rows()[1].waits_for is None


def test_blocked_children_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A blocked trial ends with its reason and asks for no more time."""
    progress = _chain()
    parent, child = list(progress.trials)
    progress.end(parent, "failed", reason="the loss is nan")
    progress.end(child, "blocked", reason="blocked by stub/parent seed 0 (failed: the loss is nan)")
    row = progress.rows()[1]
    assert (row.blocked, row.failed, row.seconds_left, row.waits_for) == (1, 0, 0.0, None)
    PlainLines(progress).ended(progress.trials[child])
    assert capsys.readouterr().out == (
        "[2/2] stub/child seed 0 not started: blocked by stub/parent seed 0 (failed: the loss is nan)\n"
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(LiveTable(progress)._render())
    assert "0/1 1 blocked" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (45.0, "45 s"), (600.0, "10 min"), (12600.0, "3.5 h"), (864000.0, "10.0 days")]
)
def test_duration(seconds: float | None, text: str) -> None:
    """Times are said in the unit a reader would choose."""
    assert duration(seconds) == text


def test_a_trial_that_goes_on_shows_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the plan before it has a process, and from its own process, which may have lost epochs since its last
    checkpoint: progress.json says epoch 5, and 3 were saved."""
    from pipelines.schedule.callbacks import TuneCallback
    from pipelines.schedule.trainable import KEY, make_trainable

    one, other = (spec(tmp_path, "ok", seed, epochs=10) for seed in (0, 1))
    store = Store.open(tmp_path, create=True)
    interrupt(store, one, 5)
    assert store.state(one).epochs_done == store.epochs_done(one) == 5  # of a version that did not say
    text = (store.work_folder(one) / PROGRESS_FILE).read_text("utf-8")
    (store.work_folder(one) / PROGRESS_FILE).write_text(text.replace("{", '{"saved": 3, '), "utf-8")
    assert (store.state(one).epochs_done, store.epochs_done(one), store.epochs_done(other)) == (3, 3, 0)

    progress = Progress([one, other], epochs_before={one.trial_id: 3})
    progress.start(one.trial_id)
    assert (progress.rows()[0].epoch, progress.trials[one.trial_id].epochs_left) == (3, 7)
    assert describe_running(progress.running()[0]) == "stub/ok seed 0 epoch 3/10"

    said: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.tune.report", said.append)
    for trial in (one, other):
        make_trainable(SharedFolder(tmp_path / "stop"), TRAIN)({KEY: trial.model_dump_json()})
    assert said[0] == {"status": "running", "epoch": 3}
    assert all("accuracy" in line for line in said[1:])  # the other one starts, and has nothing to say before an epoch
    callback = TuneCallback(
        progress,
        PlainLines(progress),
        TrialQueue([one], lambda: (1.0, 0.0)),
        max_failures=0,
        give_up=lambda *_: None,
        stop=cast(StopRequest, None),
    )
    progress.epoch(one.trial_id, 5, 0.5, 2.0)  # told before its process died
    trial = SimpleNamespace(trial_id="x", config={KEY: one.model_dump_json()})
    callback.on_trial_result(0, [], trial, said[0])
    shown = progress.trials[one.trial_id]
    assert (shown.epoch, shown.accuracy, shown.epoch_seconds) == (3, 0.5, 2.0)


def test_the_plan_tells_the_run_where_trials_go_on(tmp_path: Path) -> None:
    """A partial trial's epochs; none of one that starts, also where ``--mode force`` trains it afresh."""
    trials = [
        SimpleNamespace(spec=spec(tmp_path, "ok", seed, epochs=10), epochs_left=left)
        for seed, left in ((0, 7), (1, 10))
    ]
    plan = cast(Plan, SimpleNamespace(to_run=lambda: trials))
    assert epochs_before(plan) == {trials[0].spec.trial_id: 3}
    assert epochs_before(None) == {}
