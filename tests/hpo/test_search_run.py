"""A whole search with a real Ray: killed, interrupted, ended, mirrored, and its values included. Training is a stub."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.stubs.search import BEST_RATE, TRAIN, accuracy, line, trained, write_tables

from pipelines.commands import search
from pipelines.commands.shell import INTERRUPTED
from pipelines.hpo.curve import Curve, read_stopped
from pipelines.hpo.plan import Judged, Search, find_row, judge, plan_search
from pipelines.hpo.tracking import SearchTracker
from pipelines.hpo.tune import running
from pipelines.plan.placement import Placement
from pipelines.schedule.trainable import KEY
from pipelines.store.folder import Store
from tune_configs import load_tables

pytestmark = pytest.mark.slow
HERE = Path(__file__).parents[1]
EPOCHS = 9
FIRST_RUNG = 2
_DRIVER = """import sys; from pipelines.commands.search import main
sys.exit(main(sys.argv[1:], train='support.stubs.search:run_trial'))"""


@dataclass
class Ended:
    """What the search left behind, and what was said and trained on the way."""

    tables: Path
    results: Path
    words: list[str]
    first_stopped: set[str]
    after_kill: dict[tuple[str, int], int]
    interrupted: tuple[int, str]
    code: int

    @property
    def own(self) -> Path:
        """The search's own store."""
        return self.results / "search" / "toy" / "sought"


def laid_out(tables: Path, results: Path) -> Search:
    """The search as the command lays it out."""
    row = find_row(load_tables(tables), "toy/sought")
    placement = Placement(checkpoint_minutes=0.0)
    return plan_search(row, "smoke", seed=0, trials=None, placement=placement, results_dir=results)


def standing(tables: Path, results: Path) -> list[Judged]:
    """How the configurations stand."""
    one = laid_out(tables, results)
    return judge(one, Store.open(one.results_dir))


def stopped_marks(own: Path) -> set[str]:
    """The fingerprints of the configurations that were given up."""
    return {path.parents[1].name for path in own.glob("trials/toy/*/*/seed-0.work/stopped.json")}


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start the command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"},
    )


def wait_for(own: Path, epochs: int) -> None:
    """Wait until so many epochs were trained in all."""
    until = time.monotonic() + 60
    while time.monotonic() < until and sum(trained(own).values()) < epochs:
        time.sleep(0.05)


def wait_for_quiet(own: Path) -> None:
    """Wait until what a killed driver left running has ended."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 1.5:
        now = sum(trained(own).values())
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A search whose driver is killed, started again and interrupted, and then runs to its end."""
    folder = tmp_path_factory.mktemp("search")
    tables, results = write_tables(folder / "tables"), folder / "results"
    words = ["--row", "toy/sought", "--tables", str(tables), "--results-dir", str(results), "--device", "cpu"]
    own = results / "search" / "toy" / "sought"

    killed = start(words)
    wait_for(own, 9)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    wait_for_quiet(own)
    after_kill, first_stopped = dict(trained(own)), stopped_marks(own)

    stopped = start(words)
    wait_for(own, sum(after_kill.values()) + 3)
    os.kill(stopped.pid, signal.SIGINT)
    said, _ = stopped.communicate(timeout=60)
    interrupted = (stopped.returncode, said)
    first_stopped |= stopped_marks(own)

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(HERE)
    try:
        code = search.main(words, train=TRAIN)
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return Ended(tables, results, words, first_stopped, after_kill, interrupted, code)


def test_the_right_configuration_wins(ended: Ended) -> None:
    """The best learning rate is found, trained to the end, and stands in the file with where it comes from."""
    assert ended.code == search.FOUND
    found = yaml.safe_load((ended.tables / "found" / "toy.sought.yaml").read_text("utf-8"))
    assert found["recipe"] == {"optimiser": {"learning_rate": BEST_RATE}}
    provenance = found["provenance"]
    assert provenance["winner"]["validation_accuracy"] == pytest.approx(accuracy(BEST_RATE, EPOCHS - 1))
    assert (provenance["scale"], provenance["seed"], provenance["epochs"]) == ("smoke", 0, EPOCHS)
    assert (provenance["training_images"], provenance["validation_images"]) == (256, 64)
    counts = provenance["configurations"]
    assert (counts["tried"], counts["failed"], counts["finished"] + counts["stopped"]) == (6, 1, 5)
    assert provenance["command"].startswith("python pipelines/search.py --row toy/sought")
    assert {"date", "commit", "dirty", "packages", "data_checksum", "space"} <= set(provenance)


def test_nothing_is_trained_twice(ended: Ended) -> None:
    """Over three drivers, one of them killed, no epoch of any configuration was trained a second time."""
    counts = trained(ended.own)
    assert set(counts.values()) == {1}, counts
    assert ended.after_kill, "the first driver was killed before it trained anything"
    for one in standing(ended.tables, ended.results):
        mark = one.configuration.spec.fingerprint
        assert sorted(epoch for name, epoch in counts if name == mark) == list(range(one.epochs_done))


def test_what_was_given_up_stays_given_up(ended: Ended) -> None:
    """Poor configurations end at a rung (2 or 6 of 9 epochs) and later drivers leave them alone."""
    stopped = [one for one in standing(ended.tables, ended.results) if one.standing == "stopped"]
    assert stopped, "ASHA gave none of six configurations up"
    assert {one.epochs_done for one in stopped} <= {FIRST_RUNG, 3 * FIRST_RUNG}
    assert ended.first_stopped <= {one.configuration.spec.fingerprint for one in stopped}


def test_ctrl_c_ends_with_130_and_the_command_to_go_on(ended: Ended) -> None:
    """Ctrl-C leaves checkpoints and says how to go on."""
    code, said = ended.interrupted
    assert code == INTERRUPTED
    assert "To resume: python pipelines/search.py --row toy/sought" in said


def test_again_trains_nothing_and_writes_the_same(ended: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command on an ended search only says what came out; no Ray is started."""
    before = trained(ended.own)
    assert search.main(ended.words, train="no_such_module:nothing") == search.FOUND
    assert trained(ended.own) == before
    said = capsys.readouterr().out
    assert "winner: optimiser.learning_rate 0.1" in said
    assert "the values it finds mean nothing" in said
    assert "6 configurations:" in said


def test_mirror_is_complete_and_idempotent(ended: Ended) -> None:
    """The search is a parent run, each configuration a child with its curve; a second sync changes nothing."""
    database = ended.results / "mlflow" / "mlflow.db"
    before = list(sqlite3.connect(database).iterdump())
    one = laid_out(ended.tables, ended.results)
    judged = standing(ended.tables, ended.results)
    tracker = SearchTracker(None, ended.results)
    outcome = tracker.sync_search(one, judged, "toy.sought.yaml")
    assert (outcome.error, outcome.writes, outcome.unchanged) == (None, 0, 7)
    assert list(sqlite3.connect(database).iterdump()) == before

    client = tracker._connect()
    experiment = client.get_experiment_by_name("search toy/sought").experiment_id
    runs = {run.data.tags["identity"]: run for run in client.search_runs([experiment])}
    parent = runs[one.identity]
    assert parent.data.tags["winner.optimiser.learning_rate"] == "0.1"
    assert parent.data.tags["validation_images"] == "64"
    for each in judged:
        child = runs[each.configuration.spec.trial_id]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.params["optimiser.learning_rate"] == str(each.configuration.values["optimiser.learning_rate"])
        curve = client.get_metric_history(child.info.run_id, "validation_accuracy_percent")
        assert [point.step for point in curve] == list(range(each.epochs_done))


def test_a_row_includes_what_was_found(ended: Ended) -> None:
    """With `include:` the row, and the one that corrects it, take the values; the report's notes say so."""
    path = ended.tables / "toy.yaml"
    text = path.read_text("utf-8")
    row = "  sought:\n    label: Sought\n"
    try:
        path.write_text(text.replace(row, row + "    include: found/toy.sought.yaml\n"), "utf-8")
        rows = load_tables(ended.tables)["toy"].rows
    finally:
        path.write_text(text, "utf-8")
    for name in ("sought", "sought-corrected"):
        assert rows[name].included == "found/toy.sought.yaml"
        assert rows[name].recipe_at("paper").optimiser.learning_rate == BEST_RATE
        assert rows[name].notes[-1] == (
            "Values from a search at smoke scale (smoke: they mean nothing): optimiser.learning_rate 0.1 "
            "(found/toy.sought.yaml)."
        )


def test_replayed_rungs_are_those_before(ended: Ended, tmp_path: Path) -> None:
    """A new driver's scheduler, told what was trained, judges as the old one would have: also who was given up."""
    from pipelines.hpo.asha import StoredASHA  # loads Ray, whose token must be set first: `ended` did

    one = laid_out(ended.tables, tmp_path)
    rates = {each.spec.trial_id: float(each.values["optimiser.learning_rate"]) for each in one.configurations}
    trials = [
        SimpleNamespace(trial_id=f"t{each.index}", config={KEY: each.spec.model_dump_json()})
        for each in one.configurations
    ]
    old = StoredASHA(9, 2, 3.0, one.results_dir)
    store = Store.open(one.results_dir, create=True)
    curves: dict[str, Curve] = {}
    for trial, each in zip(trials[:4], one.configurations, strict=False):
        store.work_folder(each.spec)
        old.on_trial_add(None, trial)
        name = each.spec.trial_id
        curves[name] = Curve(0, ())
        for epoch in range(8):
            curves[name] = curves[name].grown(line(epoch, accuracy(rates[name], epoch)))
            if old.on_trial_result(None, trial, running(curves[name].epochs[-1])) == "STOP":
                break
    given_up = [each for each in one.configurations if read_stopped(store.folder(each.spec)) is not None]
    assert [len(curves[each.spec.trial_id].epochs) for each in given_up] == [2, 2]
    stopped = read_stopped(store.folder(given_up[0].spec))
    assert stopped is not None
    assert (stopped.epoch, stopped.accuracy) == (2, accuracy(rates[given_up[0].spec.trial_id], 1))

    new = StoredASHA(9, 2, 3.0, one.results_dir)
    for name in reversed(curves):
        new.replay(name, curves[name])
    assert rungs(new) == rungs(old)
    again = SimpleNamespace(trial_id="another-id", config=trials[0].config)
    new.on_trial_add(None, again)
    for known in curves[one.configurations[0].spec.trial_id].epochs:
        assert new.on_trial_result(None, again, running(known)) == "CONTINUE", "judged a second time"
    assert rungs(new) == rungs(old)


def rungs(scheduler: Any) -> list[tuple[float, dict[str, float]]]:
    """What the scheduler remembers at each rung."""
    return [(milestone, dict(sorted(recorded.items()))) for milestone, recorded in scheduler._brackets[0]._rungs]
