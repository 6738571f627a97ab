"""The command itself, with a real Ray, a real MLflow and real training (the smallest row)."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from dnw_core.config.execution import Execution
from dnw_core.record import CHECKPOINT_FILE, TrialRecord, read_record
from dnw_core.task import TrialIdentity, TrialTask
from dnw_core.training import run_trial
from tune_configs import load_tables

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "pipelines" / "reproduce_all.py"), "--only", "tiny/static-dnw", "--device", "cpu"]


def start(results: Path) -> subprocess.Popen[str]:
    """Start the command in a session of its own, so that it can be killed with everything it started."""
    return subprocess.Popen(
        [*COMMAND, "--results-dir", str(results), "--seeds", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def folders(results: Path) -> dict[int, Path]:
    """The finished trials by seed."""
    found = (results / "trials").glob("tiny/static-dnw/*/seed-*")
    return {int(path.name.removeprefix("seed-")): path for path in found if path.suffix != ".work"}


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_ray_changes_no_bit(tmp_path: Path) -> None:
    """SIGKILL after the first finished trial, the same command again: all done, nothing trained twice, and the
    weights are those that the trial has without Ray. Report and MLflow then show it."""
    results = tmp_path / "results"
    killed = start(results)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("[1/3]"):
            break
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    first = {seed: (path / "trial.json").read_bytes() for seed, path in folders(results).items()}
    assert 1 <= len(first) < 3

    again = start(results)
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert "3 of 3 trials done, 0 failed, 0 missing" in said
    trials = folders(results)
    assert sorted(trials) == [0, 1, 2]
    for seed, content in first.items():
        assert (trials[seed] / "trial.json").read_bytes() == content

    recipe = load_tables()["tiny"].rows["static-dnw"].recipe_at("smoke")
    record = read_record(trials[1] / "trial.json")
    identity = TrialIdentity(table="tiny", row="static-dnw", scale="smoke", fingerprint=record.fingerprint)
    direct = run_trial(TrialTask(recipe, 1, Execution(), tmp_path / "direct", identity))
    assert direct.last == record.last
    ours, rays = (torch.load(path / CHECKPOINT_FILE, weights_only=True) for path in (tmp_path / "direct", trials[1]))
    for name, value in ours["model"].items():
        assert torch.equal(value, rays["model"][name]), name

    _check_report(results, [read_record(path / "trial.json") for path in trials.values()])
    _check_mlflow(results)


def _check_report(results: Path, records: list[TrialRecord]) -> None:
    text = (results / "results.md").read_text("utf-8")
    assert "THIS IS NOT A REPRODUCTION" in text
    assert "| Static (DNW)<br>`static-dnw` | 41.5k | 41.5k | 2.66M | 2.66M |" in text  # the cost table
    assert json.loads((results / "costs.json").read_text("utf-8"))["counts"]
    frame = pd.read_parquet(results / "results.parquet")
    (line,) = frame[frame["row"] == "static-dnw"].to_dict("records")
    accuracies = pd.Series([100 * record.last.test_accuracy for record in records if record.last])
    assert line["mean"] == pytest.approx(accuracies.mean())
    assert line["std"] == pytest.approx(accuracies.std())
    assert line["n"] == 3
    assert line["verdict"] == "not comparable (smoke: no reproduction)"
    for figure in ("tiny-learning-curves.png", "tiny-ours-vs-published.png"):
        assert (results / "figures" / figure).stat().st_size > 10_000


def _check_mlflow(results: Path) -> None:
    with sqlite3.connect(results / "mlflow" / "mlflow.db") as database:
        runs = dict(database.execute("select name, status from runs").fetchall())
        steps = database.execute("select count(*) from metrics where key = 'test_accuracy_percent'").fetchone()[0]
        tags = dict(database.execute("select key, value from tags where key = 'verdict'").fetchall())
    assert len(runs) == 4  # the row and its three seeds
    assert set(runs.values()) == {"FINISHED"}
    assert steps == 3 * 2  # every epoch of every seed
    assert json.dumps(tags) == json.dumps({"verdict": "not comparable (smoke: no reproduction)"})
