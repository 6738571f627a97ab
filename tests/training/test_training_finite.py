"""A network that has diverged is a failed trial: nothing counts what argmax makes of NaN, which is chance."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support.networks.worker_steps import feed_of, recipe_of
from support.stubs.reports_store import row, write_trial
from support.stubs.specs import report_row, spec
from support.stubs.tiny_trials import small_recipe, train
from test_training_scores import Guess
from torch import Tensor, nn

from dnw_core.config.base import fingerprint
from dnw_core.errors import CheckpointRefusedError, NotFiniteError
from dnw_core.models.build import build_wired
from dnw_core.record import EpochMetrics, Scores
from dnw_core.training.checkpoints.resume import check_resumable
from dnw_core.training.engine.finite import finite_epoch
from dnw_core.training.engine.loop import evaluate
from pipelines.store.folder import Store
from pipelines.trial.run import run_spec
from reports import read_trials

ONE_STEP = {"dataset": "digits", "flip": False, "train_images": 64, "test_images": 64}


class Odd(Guess):
    """Finite logits but for one value of one image."""

    def __init__(self, classes: int, value: float) -> None:
        super().__init__(classes)
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits = super().forward(images)
        logits[-1, -1] = self.value
        return logits


@pytest.mark.parametrize("classes", [5, 10])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_no_accuracy_comes_of_logits_that_are_not_finite(value: float, classes: int) -> None:
    """One value among all test images is enough, also a minus infinity of a class that is no image's, and a loss that
    overflows by itself (3e38 for a wrong class, on several images)."""
    recipe = recipe_of("dropout", network={"kind": "graph-mobilenet", "classes": classes})
    feed = feed_of(recipe)
    feed._images.labels %= classes - 1  # never the last one
    network = Odd(classes, value)
    if value == 3e38:
        places = torch.tensor(classes - 1)
        network.register_forward_hook(lambda module, given, logits: logits.index_fill(1, places, value))
    with pytest.raises(NotFiniteError, match=r"test loss is not finite|logits are not finite"):
        evaluate(recipe, network, network, feed)
    network = Odd(classes, 0.0)
    assert math.isfinite(evaluate(recipe, network, network, feed).loss)


@pytest.mark.parametrize("kind", ["tiny-static", "tiny-discrete"])
def test_a_network_that_diverges_in_an_epochs_last_step_has_failed(kind: str, tmp_path: Path) -> None:
    """Its training loss was finite, so only the test loss tells; there is no record, no score and no checkpoint."""
    recipe = small_recipe(kind, data=ONE_STEP, optimiser={"learning_rate": 1e30})
    seen: list[EpochMetrics] = []
    with pytest.raises(NotFiniteError, match=r"^the test loss is not finite \(epoch 0\)$"):
        train(recipe, tmp_path, on_epoch=seen.append, checkpoint_minutes=0)
    assert not seen
    assert not {path.name for path in tmp_path.iterdir()} & {"trial.json", "checkpoint.pt"}


def test_an_equation_without_a_finite_solution_has_failed_in_words(tmp_path: Path) -> None:
    """The solver's own word for it is an AssertionError without a sentence."""
    recipe = small_recipe("tiny-continuous", data=ONE_STEP, optimiser={"learning_rate": 1e10})
    with pytest.raises(NotFiniteError, match=r"has no finite solution: .+ \(epoch 0\)$"):
        train(recipe, tmp_path)


def test_the_store_has_a_failure_at_once_and_the_report_no_score(tmp_path: Path) -> None:
    """Not a process that died: the trial is not started again, and its reason stands in the record."""
    recipe = small_recipe(data=ONE_STEP, optimiser={"learning_rate": 1e30})
    one = spec(tmp_path).model_copy(update={"recipe": recipe, "fingerprint": fingerprint(recipe)})
    Store.open(tmp_path, create=True)
    record = run_spec(one)
    assert record is not None
    assert (record.status, record.reason) == ("failed", "the test loss is not finite (epoch 0)")
    assert Store(tmp_path).state(one).kind == "failed"
    trials = read_trials(tmp_path, [report_row(one)])
    assert trials["status"].tolist() == ["failed"]
    assert trials["accuracy"].isna().all()


def test_weights_that_reach_no_logit_are_looked_at() -> None:
    """Weights and running statistics by name; another error is that one unless something is not finite."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with finite_epoch(network, 3):
        pass
    with pytest.raises(KeyError), finite_epoch(network, 3):
        raise KeyError
    assert isinstance(network[1].running_var, Tensor)
    network[1].running_var[0] = math.inf
    with pytest.raises(NotFiniteError, match=r"^1.running_var is not finite \(epoch 3\)$"), finite_epoch(network, 3):
        pass
    with torch.no_grad():
        network[0].weight[0, 0] = math.nan
    with pytest.raises(NotFiniteError, match=r"^0.weight is not finite \(epoch 3\)$"), finite_epoch(network, 3):
        raise KeyError


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_record_holds_a_loss_that_is_not_finite(value: float, tmp_path: Path) -> None:
    """Neither made here nor read by the report, whose rows would count the chance accuracy beside it."""
    with pytest.raises(ValueError, match="finite"):
        Scores(epoch=0, test_accuracy=0.1, test_loss=value, train_loss=1.0)
    given = row()
    write_trial(tmp_path, given, 0, last={"epoch": 0, "test_accuracy": 0.1, "test_loss": value, "train_loss": 1.0})
    trials = read_trials(tmp_path, [given])
    assert trials["status"].tolist() == ["unreadable"]
    assert "diverged" in trials["reason"][0]


def test_a_folder_of_before_is_mended(tmp_path: Path) -> None:
    """An older version left a checkpoint whose last epoch scored chance on NaN: it is refused, not counted."""
    recipe = small_recipe(data=ONE_STEP, epochs=1)
    train(recipe, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["history"][-1] |= {"test_loss": math.nan, "test_accuracy": 0.1}
    built = build_wired(recipe.network, recipe.wiring, 0)
    with pytest.raises(CheckpointRefusedError, match=r"history\.0\.test_loss: .* finite"):
        check_resumable(state, recipe, built)
    state["history"][-1] |= {"test_loss": 2.0}
    check_resumable(state, recipe, built)
