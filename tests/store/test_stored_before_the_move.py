"""Results written before the code moved into rooms (commit 2491bc4) are read, resumed and reported.

``before_the_move/results`` was written by that commit's command modules: a finished trial, one that was stopped in its
second epoch, and one that diverged. ``before_the_move/seed-1`` is what the second one became without a stop.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.stubs.specs import report_row

from dnw_core.record import CHECKPOINT_FILE, HISTORY_FILE, WIRING_FILE, read_record
from dnw_core.training.checkpoints.checkpoint import read_checkpoint
from pipelines.commands.reproduce_all import main
from pipelines.plan import Placement, make_plan, parse_overrides, plan_rows
from pipelines.spec import TrialSpec
from pipelines.store import Store
from pipelines.trial import run_spec
from reports import build_report, read_trials
from tune_configs import load_tables

STORED = Path(__file__).with_name("before_the_move")
SETTINGS = [
    "network.nodes=44",
    "network.input_nodes=8",
    "network.output_nodes=6",
    "network.block_nodes=12",
    "wiring.density=0.3",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of the stored results."""
    shutil.copytree(STORED / "results", tmp_path / "results")
    return Store.open(tmp_path / "results")


def specs(store: Store, row: str, seeds: tuple[int, ...], *settings: str) -> list[TrialSpec]:
    """Return the row's trials as the command plans them."""
    tables = load_tables()
    overrides = parse_overrides([*SETTINGS, *settings])
    planned = plan_rows(tables, [tables["tiny"].rows[row]], "smoke", seeds=seeds, overrides=overrides)
    return [one.spec for one in make_plan(planned, "smoke", store, Placement(device="cpu"), check_data=False).trials]


def failed(store: Store) -> TrialSpec:
    """The trial that diverged."""
    return specs(store, "static-random", (0,), "optimiser.learning_rate=1e30")[0]


def test_they_are_read(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the same names and fingerprints, each in its state, by the store, the report and the command."""
    trials = [*specs(store, "static-dnw", (0, 1)), failed(store)]
    assert [state.kind for state in store.states(trials)] == ["done", "partial", "failed"]
    found = read_trials(store.results_dir, [report_row(trials[0]), report_row(trials[2], (0,))])
    assert list(found["status"]) == ["done", "running", "failed"]
    assert list(found["epochs_done"].fillna(-1)) == [2, 1, -1]
    assert found["accuracy"][0] == 8.59375
    assert found["reason"][2] == "the training loss is not finite (epoch 0, by step 1)"
    words = ["--only", "tiny/static-dnw", *(word for text in SETTINGS for word in ("--set", text)), "--device", "cpu"]
    assert main([*words, "--status", "--seeds", "0,1", "--results-dir", str(store.results_dir)]) == 0
    assert "1 done" in capsys.readouterr().out


def test_the_partial_one_goes_on_to_the_bit(store: Store) -> None:
    """From its checkpoint to the result that it had without a stop; on another processor, near it."""
    trial = specs(store, "static-dnw", (1,))[0]
    record = run_spec(trial)
    assert record is not None
    assert record.provenance is not None
    assert (record.status, record.provenance.resumed) == ("done", 1)
    folder, expected = store.folder(trial), STORED / "seed-1"
    assert "resumed at epoch 1, step 3" in (folder / "log.txt").read_text()
    there = read_record(next(store.results_dir.rglob("seed-0/trial.json"))).provenance
    assert there is not None
    same = (there.processor, there.packages) == (record.provenance.processor, record.provenance.packages)
    tolerance = 0.0 if same else 1e-3
    ours, theirs = (pd.read_parquet(one / HISTORY_FILE).drop(columns="seconds") for one in (folder, expected))
    pd.testing.assert_frame_equal(ours, theirs, rtol=tolerance, atol=tolerance)
    weights, wanted = (read_checkpoint(one / CHECKPOINT_FILE)["model"] for one in (folder, expected))
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=tolerance, atol=tolerance)
    if same:
        with np.load(folder / WIRING_FILE) as found, np.load(expected / WIRING_FILE) as edges:
            assert {name: found[name].tolist() for name in found} == {name: edges[name].tolist() for name in edges}


def test_they_are_reported(store: Store) -> None:
    """In one page: what is done, what runs, and what failed with its reason."""
    trials = [specs(store, "static-dnw", (0, 1))[0], failed(store)]
    page = build_report(store.results_dir, [report_row(trials[0]), report_row(trials[1], (0,))], scale="smoke")
    text = page.markdown.read_text()
    assert "| **8.6** (1) |" in text
    assert "| **partial 1/2 (smoke: no reproduction)** |" in text
    assert (
        "**failed (smoke: no reproduction)**<br>seed 0: the training loss is not finite (epoch 0, by step 1) |" in text
    )
