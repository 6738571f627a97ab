"""Drives the command over a results folder of the corpora: real but for Ray, MLflow and the drawing of figures."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from dnw_core.models.build import build_wired
from dnw_core.record import LOG_FILE
from dnw_core.task import TrialTask
from dnw_core.training.checkpoints.resume import Built, load_resumable
from dnw_core.training.checkpoints.trial_log import TrialLog
from pipelines.commands import reproduce_all as cli
from pipelines.commands.shell import USER_ERROR
from pipelines.plan.placement import Placement
from pipelines.plan.planner import make_plan, plan_rows
from pipelines.schedule import run as schedule
from pipelines.spec import TrialSpec
from pipelines.store.folder import Store
from pipelines.trial.run import run_spec
from support.corpus import trials as corpus_trials
from tune_configs import load_tables

TABLES = load_tables()
ROW = ["--only", "tiny/static-dnw", "--threads", "1"]
MOST_SEEDS = 400
_TALLIES = ("done", "failed", "running", "unreadable", "missing")  # tell a folder that is not believed from none


@dataclass
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """Whether it ended with a user's mistake, which is one line on standard error and no traceback."""
        if self.code != USER_ERROR:
            return False
        assert self.err.startswith("error: ")
        assert len(self.err.splitlines()) == 1, self.err
        return True


class Command:
    """The command in this process. What it trains is written by ``corpus_trials.good_trial``, through ``run_spec``.

    Args:
        results: the results folder.
        capsys: hears what is said.
    """

    def __init__(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.results = results
        self.trained: list[int] = []
        self.seeds: Sequence[int] = ()
        self.capsys = capsys

    def __call__(self, *words: str) -> Said:
        """Run it."""
        self.capsys.readouterr()
        seeds = ",".join(map(str, self.seeds))
        code = cli.main([*ROW, "--results-dir", str(self.results), "--seeds", seeds, *words])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert all(character.isprintable() or character == "\n" for character in said.out + said.err)
        return Said(code, said.out, said.err)

    def schedule(self, specs: Sequence[TrialSpec], *, store: Store, **_: Any) -> schedule.ScheduleOutcome:
        """Stand in for Ray, in one process."""
        for spec in specs:
            self.trained.append(spec.seed)
            run_spec(spec, train=_train)
        return schedule.ScheduleOutcome(0, 0, 0, interrupted=False)

    def report(self) -> pa.Table:
        """Return ``results.parquet``."""
        return parquet.read_table(self.results / "results.parquet")

    def statuses(self) -> dict[int, str]:
        """Return what the report says of each seed that it found."""
        lines = parquet.read_table(self.results / "trials.parquet").to_pylist()
        return {line["seed"]: line["status"] for line in lines}

    def figures(self) -> list[dict[str, Any]]:
        """Return its lines without the tallies of folders."""
        return [{name: line[name] for name in line if name not in _TALLIES} for line in self.report().to_pylist()]


def _train(task: TrialTask, _: Any) -> Any:
    spec = _specs()[task.seed]
    assert task.recipe == spec.recipe
    with TrialLog(task.folder / LOG_FILE) as log:  # as training begins
        load_resumable(task, copy.deepcopy(_network()), log)
    return corpus_trials.good_trial(task.folder, spec)


@functools.cache
def _network() -> Built:
    """The row's network: a checkpoint is resumed from or refused whatever the seed of its weights."""
    recipe = _specs()[0].recipe
    return build_wired(recipe.network, recipe.wiring, seed=0)


@functools.cache
def _specs() -> list[TrialSpec]:
    """The row's trials as the planner makes them, by seed; in no results folder yet."""
    planned = plan_rows(TABLES, [TABLES["tiny"].rows["static-dnw"]], "smoke", seeds=tuple(range(MOST_SEEDS)))
    plan = make_plan(planned, "smoke", Store.open(Path("nowhere")), Placement(device="cpu"), check_data=False)
    return [trial.spec for trial in plan.trials]


def lay_out(results: Path, seeds: Iterable[int]) -> None:
    """Make a results folder with these seeds' good trials."""
    store = Store.open(results, create=True)
    for seed in seeds:
        corpus_trials.good_trial(store.folder(spec_of(results, seed)), spec_of(results, seed))


def spec_of(results: Path, seed: int) -> TrialSpec:
    """Return a seed's trial in this results folder."""
    return _specs()[seed].model_copy(update={"results_dir": results})


def quicken(monkeypatch: pytest.MonkeyPatch, command: Command, *, figures: bool = False) -> None:
    """Replace Ray and MLflow, the tables' reading and (without ``figures``) all drawing and counting."""
    import pipelines.counts.cache
    import pipelines.tracking.process
    import pipelines.tracking.tracker

    monkeypatch.setattr(cli, "load_tables", lambda: TABLES)
    monkeypatch.setattr(pipelines.schedule, "run_schedule", command.schedule)
    for tracker in (pipelines.tracking.tracker.Tracker, pipelines.tracking.process.TrackerProcess):
        monkeypatch.setattr(tracker, "sync", lambda self, rows: SimpleNamespace(error=None))
    monkeypatch.setattr(pipelines.tracking.process.TrackerProcess, "prepare", lambda self: None)
    monkeypatch.setattr(pipelines.counts, "report_costs", lambda *_: None)
    if not figures:
        draw_nothing(monkeypatch)


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have no figures: drawing takes most of their time."""
    import reports.build

    monkeypatch.setattr(reports.build, "table_pictures", lambda *_: [])
    monkeypatch.setattr(reports.build, "wiring_picture", lambda source, target, **_: target)
