"""The corpora once more, slowly: each damaged trial by itself with its figures, each checkpoint trained to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from security.test_corpus_checkpoints import KEY, RECIPE, interrupted, same
from support.corpus import checkpoints as corpus_checkpoints
from support.corpus import trials as corpus_trials
from support.corpus.command import Command, lay_out, quicken, spec_of
from support.corpus.damage import no_hang
from support.stubs.tiny_trials import train

from dnw_core.record import CHECKPOINT_FILE
from dnw_core.training.checkpoints.checkpoint import read_checkpoint
from pipelines.store.folder import Store

pytestmark = pytest.mark.faults
__all__ = ["interrupted"]  # a fixture

TRIALS = {**corpus_trials.cases(), **corpus_trials.telling_cases()}
CHECKPOINTS = corpus_checkpoints.cases()


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as it is without harm is trained once."""
    return tmp_path_factory.mktemp("undamaged") / "trial"


@pytest.mark.parametrize("name", TRIALS)
def test_each_damaged_trial_by_itself(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report with all its figures, repair, and a report that is the undamaged one's to the bit."""
    reports = []
    for place in ("good", "damaged"):
        command = Command(tmp_path / place, capsys)
        command.seeds = (0, 1)
        quicken(monkeypatch, command, figures=True)
        lay_out(command.results, command.seeds)
        if place == "damaged":
            TRIALS[name](Store.open(command.results).folder(spec_of(command.results, 1)))
            with no_hang():
                assert [command(look).code for look in ("--status", "--plan", "--report-only")] == [0, 0, 0]
        with no_hang():
            assert command().code == 0
        reports.append((command.results / "results.parquet").read_bytes())
    assert reports[0] == reports[1]
    assert command.trained == [1]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_each_damaged_checkpoint_trained_to_its_end(
    name: str, interrupted: Path, undamaged: Path, tmp_path: Path
) -> None:
    """From whatever is left of the trial, the same network as undisturbed, to the bit."""
    if not undamaged.exists():
        shutil.copytree(interrupted, undamaged)
        train(RECIPE, undamaged)
    shutil.copytree(interrupted, tmp_path / "trial")
    corpus_checkpoints.write(tmp_path / "trial", CHECKPOINT_FILE, CHECKPOINTS[name])
    with no_hang():
        train(RECIPE, tmp_path / "trial")
    whole, harmed = (read_checkpoint(folder / CHECKPOINT_FILE, KEY) for folder in (undamaged, tmp_path / "trial"))
    assert same(whole["model"], harmed["model"])
