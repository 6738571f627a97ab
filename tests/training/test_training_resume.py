"""Reproducible to the bit on a CPU, whether or not the trial was killed and resumed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.stubs.tiny_trials import interrupt, small_recipe, stop_after, train

from dnw_core.config.recipe import Recipe
from dnw_core.errors import TrialStopped
from dnw_core.models.build import build_wired
from dnw_core.record import CHECKPOINT_FILE, HISTORY_FILE, LOG_FILE, PROGRESS_FILE, WIRING_FILE, EpochMetrics
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.wiring.attach import attached_rules

CASES = [
    ("tiny-static", "top-edges", "fp32"),
    ("tiny-static", "l1-anneal", "fp32"),
    ("tiny-discrete", "targeted-dropout", "fp32"),
    ("tiny-discrete", "fixed-random", "fp32"),
    ("tiny-discrete", "top-edges", "bf16"),
    ("tiny-continuous", "top-edges", "fp32"),
    ("graph-mobilenet", "top-edges", "fp32"),
]


def few_images(
    kind: str = "tiny-static", rule: str = "top-edges", size: int = 8, steps: int = 3, **changes: Any
) -> Recipe:
    """``small_recipe`` with small batches: what is proven of 64 images is proven of eight."""
    data = {"dataset": "digits", "flip": False, "train_images": steps * size, "test_images": size}
    return small_recipe(kind, rule, batch_size=size, data=data, **changes)


def final_state(folder: Path) -> dict[str, Any]:
    """What the last checkpoint holds."""
    state: dict[str, Any] = torch.load(folder / CHECKPOINT_FILE, weights_only=True)
    return state


def assert_same_result(a: Path, b: Path) -> None:
    """Weights, buffers, random state, history and edges are equal to the bit."""
    left, right = final_state(a), final_state(b)
    for name, value in left["model"].items():
        assert torch.equal(value, right["model"][name]), name
    assert torch.equal(left["random"], right["random"])
    for one, other in zip(left["history"], right["history"], strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    with np.load(a / WIRING_FILE) as one, np.load(b / WIRING_FILE) as other:
        assert sorted(one) == sorted(other)
        for name in one:
            assert np.array_equal(one[name], other[name])


def resnet_recipe(rule: str) -> Recipe:
    """A residual network under ResNet-50's settings: four epochs of two steps, for two phases of each kind."""
    return small_recipe(
        "wide-resnet",
        rule,
        epochs=4,
        batch_size=8,
        drop_last=True,
        data={"dataset": "digits", "flip": False, "train_images": 20, "test_images": 8},
        optimiser={"undecayed": "norms-off-shortcuts"},
        schedule={"kind": "epoch-cosine", "warmup_epochs": 1},
    )


@pytest.mark.parametrize("rule", ["sparse-momentum", "rigl", "ac-dc", "edge-popup"])
def test_rules_with_a_history_stopped_and_resumed(rule: str, tmp_path: Path) -> None:
    """Rules that go by momentum, gradient, phase or scores of their own: the undisturbed trial's bits; edges move."""
    lines: list[EpochMetrics] = []
    train(resnet_recipe(rule), tmp_path / "whole", on_epoch=lines.append)
    assert rule == "ac-dc" or sum(line.edges_swapped for line in lines) > 50
    assert_same_after_stops(resnet_recipe(rule), tmp_path, steps=4)


@pytest.mark.parametrize(("kind", "rule", "precision"), CASES)
def test_stopped_between_any_two_steps_and_resumed(kind: str, rule: str, precision: str, tmp_path: Path) -> None:
    """Stopped again and again in the middle of epochs, the trial ends with the undisturbed one's bits."""
    size, steps = (2, 2) if kind == "graph-mobilenet" else (8, 3)  # whose steps take long
    recipe = few_images(kind, rule, size, steps, precision=precision)
    train(recipe, tmp_path / "whole")
    assert_same_after_stops(recipe, tmp_path, steps)


def assert_same_after_stops(recipe: Recipe, folder: Path, steps: int = 3) -> None:
    """Train it stopping again and again, after so many steps; the result is that in ``folder / "whole"``."""
    for _ in range(20):
        try:
            record = train(recipe, folder / "broken", should_stop=stop_after(steps - 1))
            break
        except TrialStopped:
            continue
    assert record.provenance is not None
    assert record.provenance.resumed >= 2
    assert_same_result(folder / "whole", folder / "broken")


@pytest.fixture(autouse=True)
def _ask_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnw_core.training.session.SECONDS_BETWEEN_STOP_CHECKS", 0.0)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from support.stubs.tiny_trials import small_recipe, stop_after, train
train(small_recipe(epochs=6), Path({folder!r}), checkpoint_minutes=1e-9)
"""


def test_sigkill_in_the_middle_then_resumed(tmp_path: Path) -> None:
    """A process killed with SIGKILL loses at most the work since its last checkpoint, and no bit of the result."""
    recipe = small_recipe(epochs=6)
    train(recipe, tmp_path / "whole")
    folder = tmp_path / "killed"
    code = KILLED.format(tests=str(Path(__file__).parents[1]), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        log = folder / LOG_FILE
        if log.exists() and "epoch 1:" in log.read_text("utf-8"):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the trial ended before it could be killed"
    assert not (folder / "trial.json").exists()
    record = train(recipe, folder)
    assert record.provenance is not None
    assert record.provenance.resumed == 1
    assert_same_result(tmp_path / "whole", folder)


def stopped(folder: Path, stop: int, epochs: int, **how: Any) -> None:
    """Train to ``stop`` epochs, which leaves a checkpoint after so many ``epochs``."""
    recipe = few_images(epochs=4, batch_norm_images=4, schedule={"kind": "cosine"})
    with pytest.raises(TrialStopped):
        train(recipe, folder, stop_after_epochs=stop, **how)
    progress = json.loads((folder / PROGRESS_FILE).read_text("utf-8"))
    assert (progress["saved"], progress["metrics"]["epoch"]) == (epochs, epochs - 1)


def test_stopped_after_some_epochs_then_resumed(tmp_path: Path) -> None:
    """A part of the full recipe, with its schedule and its bits; what is asked for again is not trained again.

    The search for hyper-parameters rests on this.
    """
    recipe = few_images(epochs=4, batch_norm_images=4, schedule={"kind": "cosine"})
    train(recipe, tmp_path / "whole")
    lines: list[EpochMetrics] = []
    for stop, epochs in ((2, 2), (2, 2), (1, 2), (3, 3)):
        stopped(tmp_path / "parts", stop, epochs, on_epoch=lines.append)
    train(recipe, tmp_path / "parts", stop_after_epochs=9, on_epoch=lines.append)
    assert [line.epoch for line in lines] == [0, 1, 2, 3]
    assert_same_result(tmp_path / "whole", tmp_path / "parts")


def test_two_workers_stop_after_some_epochs(tmp_path: Path) -> None:
    """Both leave after the same epoch."""
    stopped(tmp_path, 2, 2, workers=2)


@pytest.mark.parametrize("kind", ["tiny-static", "tiny-continuous"])
def test_finished_but_not_written_down(kind: str, tmp_path: Path) -> None:
    """Killed between the last checkpoint and the record: nothing is trained again, and the record is the same."""
    recipe = few_images(kind)
    before = train(recipe, tmp_path / "trial")
    (tmp_path / "trial" / "trial.json").unlink()
    (tmp_path / "trial" / HISTORY_FILE).unlink()
    epochs: list[EpochMetrics] = []
    record = train(recipe, tmp_path / "trial", on_epoch=epochs.append)
    assert epochs == []
    assert (record.last, record.best, record.cost) == (before.last, before.best, before.cost)
    assert record.cost is not None
    assert record.cost.macs > 0


def test_only_a_checkpoint_to_go_on_from_holds_the_momentum(tmp_path: Path) -> None:
    """In the middle of a trial momentum and the epoch's first edges are there; at its end nobody needs them."""
    recipe = small_recipe()
    interrupt(recipe, tmp_path, 4)
    middle = final_state(tmp_path)
    weights = sum(value.numel() for name, value in middle["model"].items() if value.is_floating_point())
    momenta = sum(entry["momentum_buffer"].numel() for entry in middle["optimiser"]["state"].values())
    assert 0.9 * weights < momenta <= weights
    assert middle["start_masks"]["graph"].dtype == torch.bool
    size = (tmp_path / CHECKPOINT_FILE).stat().st_size
    train(recipe, tmp_path)
    assert not {"optimiser", "start_masks"} & set(final_state(tmp_path))
    assert size - (tmp_path / CHECKPOINT_FILE).stat().st_size > 4 * momenta


def test_a_finished_checkpoint_of_an_older_version_still_counts(tmp_path: Path) -> None:
    """With momentum and start masks and without a digest of the start: it finishes without training again."""
    recipe = few_images(epochs=1)
    before = train(recipe, tmp_path)
    state = final_state(tmp_path)
    network, _ = build_wired(recipe.network, recipe.wiring, 0)
    state["optimiser"] = make_optimiser(recipe, network).state_dict()
    network.load_state_dict(state["model"])
    (attached,) = attached_rules(network)
    state["start_masks"] = {"graph": attached.edges()}
    del state["initial_digest"], state["parent"]
    torch.save(state, tmp_path / CHECKPOINT_FILE)
    (tmp_path / "trial.json").unlink()
    epochs: list[EpochMetrics] = []
    again = train(recipe, tmp_path, on_epoch=epochs.append)
    assert (again.last, again.cost) == (before.last, before.cost)
    assert epochs == []


def test_threads_of_the_start_are_kept_on_resume(tmp_path: Path) -> None:
    """Results depend on the number of threads, so a resumed trial keeps the one it began with."""
    recipe = few_images(epochs=1)
    interrupt(recipe, tmp_path / "trial", 1, threads=2)
    record = train(recipe, tmp_path / "trial", threads=1)
    assert record.provenance is not None
    assert record.provenance.threads == 2
    train(recipe, tmp_path / "whole", threads=2)
    assert_same_result(tmp_path / "whole", tmp_path / "trial")


def test_other_seeds_give_other_weights(tmp_path: Path) -> None:
    """The comparison above can fail: another seed has other bits."""
    for seed in (0, 1):
        train(few_images(epochs=1), tmp_path / str(seed), seed=seed)
    with pytest.raises(AssertionError):
        assert_same_result(tmp_path / "0", tmp_path / "1")
