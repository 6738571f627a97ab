"""Damaged and malicious checkpoints are refused, and the trial goes on from its last good state."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from support.stubs.tiny_trials import interrupt, small_recipe, train

from dnw_core.errors import CheckpointRefusedError
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE
from dnw_core.training.checkpoints.checkpoint import (
    PREVIOUS_FILE,
    CheckpointKey,
    read_checkpoint,
    save_checkpoint,
)

KEY = CheckpointKey("0123abcd", 3)


class Bomb:
    """Unpickling this makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    """Neither a plain pickle nor one inside torch's archive runs."""
    target = tmp_path / "owned"
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Bomb(str(target))))
    archive = tmp_path / "archive.pt"
    torch.save({"version": 1}, archive)
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for name in good.namelist():
            content = pickle.dumps(Bomb(str(target))) if name.endswith("data.pkl") else good.read(name)
            evil.writestr(name, content)
    for path in (plain, tmp_path / "evil.pt"):
        with pytest.raises(CheckpointRefusedError, match="refused"):
            read_checkpoint(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(str(target))))
    assert target.exists(), "the bomb is real"


def test_another_trials_checkpoint_is_refused(tmp_path: Path) -> None:
    """Other recipe, other seed, other version."""
    save_checkpoint(tmp_path, KEY, {"step": 1})
    for key in (CheckpointKey("ffffffff", 3), CheckpointKey("0123abcd", 4)):
        with pytest.raises(CheckpointRefusedError, match="it belongs to recipe 0123abcd with seed 3"):
            read_checkpoint(tmp_path / CHECKPOINT_FILE, key)
    torch.save({"version": 99}, tmp_path / "other.pt")
    with pytest.raises(CheckpointRefusedError, match="not a checkpoint of version 1"):
        read_checkpoint(tmp_path / "other.pt")


def test_a_trial_with_a_broken_checkpoint_goes_on_and_says_so(tmp_path: Path) -> None:
    """Both files broken: the trial starts again; its log says why; its result is the undisturbed one."""
    recipe = small_recipe()
    interrupt(recipe, tmp_path / "trial", 2)
    path = tmp_path / "trial" / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "trial" / PREVIOUS_FILE).write_bytes(pickle.dumps(Bomb(str(tmp_path / "owned"))))
    train(recipe, tmp_path / "trial")
    log = (tmp_path / "trial" / LOG_FILE).read_text("utf-8")
    assert "checkpoint.pt refused" in log
    assert "checkpoint.previous.pt refused" in log
    assert "going on from the last good state" in log
    assert not (tmp_path / "owned").exists()
    train(recipe, tmp_path / "whole")
    whole, broken = (torch.load(tmp_path / name / CHECKPOINT_FILE, weights_only=True) for name in ("whole", "trial"))
    for name, value in whole["model"].items():
        assert torch.equal(value, broken["model"][name])
