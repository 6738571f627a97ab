"""Ray itself, for real: how trials end, a killed worker, and a stop at once. Quick trials from a stub."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.stubs.specs import TRAIN, spec

from dnw_core.errors import UserError
from pipelines.schedule import run as schedule
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_every_trial_ends_as_a_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Good trials are done, a failing one is failed, a worker killed once goes on, one that always dies is given up.

    The screen has a line a trial, none of Ray's own, and nothing but the trials is left in the results folder.
    """
    store = Store.open(tmp_path / "results", create=True)
    rows = [("ok", 0), ("ok", 1), ("fails", 0), ("dies-once", 0), ("always-dies", 0)]
    specs = [spec(store.results_dir, row, seed, cpus=2.0) for row, seed in rows]
    finished: list[TrialSpec] = []
    outcome = schedule.run_schedule(specs, store=store, on_finished=finished.append, train=TRAIN, max_failures=1)
    assert outcome == schedule.ScheduleOutcome(done=3, failed=2, left=0, interrupted=False)
    states = {one.trial_id: store.state(one) for one in specs}
    assert [state.kind for state in states.values()] == ["done", "done", "failed", "done", "failed"]
    assert states[specs[2].trial_id].reason == "the loss is nan at epoch 0, step 3"
    assert "its process died" in str(states[specs[4].trial_id].reason)
    assert "(2 attempts)" in str(states[specs[4].trial_id].reason)
    assert {one.trial_id for one in finished} == set(states)
    log = (store.folder(specs[3]) / "log.txt").read_text().splitlines()
    assert len(log) == 2, "the killed trial should have begun exactly twice"
    assert len((store.work_folder(specs[2]) / "log.txt").read_text().splitlines()) == 1, "a failure was repeated"

    out, err = capfd.readouterr()
    assert err == ""
    said = [line for line in out.splitlines() if not line.startswith("running: ")]  # every half minute
    assert len(said) == 5 + 1 + 1, out  # an end each, and a restart of either that died
    assert sorted(path.name for path in store.results_dir.iterdir()) == ["store.json", "trials"]


def test_a_stop_just_as_tune_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune ends after its first step then, and looks for a file that it has just begun to write; it is there."""
    from pipelines.schedule import tune

    set_variables = tune.ray_environment

    def stopped(variables: Mapping[str, str]) -> AbstractContextManager[None]:
        signal.raise_signal(signal.SIGINT)
        return set_variables(variables)

    monkeypatch.setattr(tune, "ray_environment", stopped)
    store = Store.open(tmp_path / "results", create=True)
    outcome = schedule.run_schedule([spec(store.results_dir, "ok")], store=store, train=TRAIN)
    assert outcome == schedule.ScheduleOutcome(done=0, failed=0, left=1, interrupted=True)


def test_trial_that_fits_nowhere_is_an_error(tmp_path: Path) -> None:
    """A trial that asks for more than this machine has is refused by name; without that it would wait for ever."""
    store = Store.open(tmp_path, create=True)
    with pytest.raises(UserError, match="stub/wide asks for 4096 CPU and 0 GPU on one machine, and none has that"):
        schedule.run_schedule([spec(tmp_path, "wide", cpus=4096.0)], store=store, train=TRAIN)
    assert not (tmp_path / ".run").exists()
