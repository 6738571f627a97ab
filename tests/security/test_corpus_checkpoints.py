"""Damaged checkpoints: the trial goes on from the one before, or afresh, and says so; never from a wrong one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.corpus import checkpoints as corpus_checkpoints
from support.corpus.damage import PARTS, no_hang, part_of
from support.stubs.tiny_trials import interrupt, small_recipe, task_of, train

from dnw_core.config.base import fingerprint
from dnw_core.models.build import build_wired
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE
from dnw_core.training.checkpoints.checkpoint import PREVIOUS_FILE, REFUSED_SUFFIX, CheckpointKey, read_checkpoint
from dnw_core.training.checkpoints.resume import load_resumable
from dnw_core.training.checkpoints.trial_log import TrialLog

CASES = corpus_checkpoints.cases()
RECIPE = small_recipe()
KEY = CheckpointKey(fingerprint(RECIPE), 0)
BUILT = build_wired(RECIPE.network, RECIPE.wiring, 0)
SILENT_BEFORE = "tensor: flip 0"  # torch loads it without a word
TRAINED = (SILENT_BEFORE, "a weight missing", "momenta of another shape", "a weight that is not a number")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial stopped after its first epoch, with its last checkpoint and the one before it."""
    folder = tmp_path_factory.mktemp("interrupted") / "trial"
    interrupt(RECIPE, folder, 4, checkpoint_minutes=1e-9)
    assert (folder / PREVIOUS_FILE).exists()
    return folder


@pytest.fixture(scope="module")
def states(interrupted: Path) -> list[dict[str, Any]]:
    """The two states that were saved."""
    found = [read_checkpoint(interrupted / name, KEY) for name in (CHECKPOINT_FILE, PREVIOUS_FILE)]
    assert (found[0]["epoch"], found[0]["step"]) > (found[1]["epoch"], found[1]["step"])
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def take(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Take the folder over as training does; return the state and the log."""
    with no_hang(), TrialLog(folder / LOG_FILE) as log:
        state = load_resumable(task_of(RECIPE, folder), BUILT, log)
    return state, (folder / LOG_FILE).read_text("utf-8")


def test_the_corpus_is_large_enough(tmp_path: Path, interrupted: Path) -> None:
    """The good checkpoint is good, and torch itself takes the one with a flipped bit: what is refused is the harm."""
    assert len(CASES) >= 60
    shutil.copytree(interrupted, tmp_path / "trial")
    assert "refused" not in take(tmp_path / "trial")[1]
    corpus_checkpoints.write(tmp_path / "trial", CHECKPOINT_FILE, CASES[SILENT_BEFORE])
    torch.load(tmp_path / "trial" / CHECKPOINT_FILE, weights_only=True)


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_checkpoint_is_not_resumed_from(
    part: int, interrupted: Path, states: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The one before it serves; with that gone the trial begins afresh. A harm that changed nothing is none."""
    for number, (_, harm) in enumerate(part_of(CASES, part)):
        folder = tmp_path / str(number)
        shutil.copytree(interrupted, folder)
        corpus_checkpoints.write(folder, CHECKPOINT_FILE, harm)
        state, log = take(folder)
        if state is not None and same(state, states[0]):
            assert "refused" not in log
            continue
        assert same(state, states[1])
        assert "checkpoint.pt refused: " in log
        assert not (folder / CHECKPOINT_FILE).exists()
        assert (folder / f"{CHECKPOINT_FILE}{REFUSED_SUFFIX}").exists()
        corpus_checkpoints.write(folder, PREVIOUS_FILE, harm)
        state, log = take(folder)
        assert state is None
        assert "checkpoint.previous.pt refused: " in log


@pytest.mark.parametrize("name", TRAINED)
def test_the_result_is_the_undisturbed_one(name: str, interrupted: Path, tmp_path: Path) -> None:
    """Trained to its end after the harm, the network is the same to the bit as without."""
    for folder, harm in (("whole", None), ("harmed", CASES[name])):
        shutil.copytree(interrupted, tmp_path / folder)
        if harm is not None:
            corpus_checkpoints.write(tmp_path / folder, CHECKPOINT_FILE, harm)
        train(RECIPE, tmp_path / folder)
    whole, harmed = (read_checkpoint(tmp_path / folder / CHECKPOINT_FILE, KEY) for folder in ("whole", "harmed"))
    assert same(whole["model"], harmed["model"])
    assert [line["test_accuracy"] for line in whole["history"]] == [line["test_accuracy"] for line in harmed["history"]]


@pytest.mark.parametrize("name", [CHECKPOINT_FILE, PREVIOUS_FILE, LOG_FILE, "history.parquet", "trial.json"])
@pytest.mark.parametrize("kind", ["link", "folder", "second name"])
def test_odd_things_in_the_working_folder(name: str, kind: str, interrupted: Path, tmp_path: Path) -> None:
    """A link, a folder or a file that has a second name elsewhere: nothing outside the folder is written to."""
    folder, outside = tmp_path / "trial", tmp_path / "outside"
    shutil.copytree(interrupted, folder)
    outside.write_text("mine")
    (folder / name).unlink(missing_ok=True)
    if kind == "link":
        (folder / name).symlink_to(outside)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).hardlink_to(outside)
    state, log = take(folder)
    assert outside.read_text() == "mine"
    assert not (folder / name).is_symlink()
    assert not (folder / name).is_dir()
    assert state is not None  # from the other checkpoint
    assert log
