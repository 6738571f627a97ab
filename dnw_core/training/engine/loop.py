"""The training loop, one for every row: what differs is in the recipe.

``train_epoch`` and ``evaluate`` know nothing of files, checkpoints or scheduling; ``session`` adds those.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import Recipe
from dnw_core.data.feeds.feed import BatchSource
from dnw_core.errors import NotFiniteError
from dnw_core.training.engine.group import SINGLE, WorkerGroup
from dnw_core.training.engine.learning_rate import learning_rate
from dnw_core.training.engine.numerics import autocast
from dnw_core.training.engine.state import TrainingState
from dnw_core.training.engine.step import TrainingStep
from dnw_core.wiring.rule import effective_weights

# reading the loss waits for the device, so on a GPU it is checked only now and then
STEPS_BETWEEN_LOSS_CHECKS = 25
TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """Scores on the test images; ``top5_accuracy`` is None for networks with five classes or fewer."""

    loss: float
    accuracy: float
    top5_accuracy: float | None


def train_epoch(
    recipe: Recipe,
    state: TrainingState,
    feed: BatchSource,
    training_step: TrainingStep,
    after_step: Callable[[bool], None],
) -> float:
    """Train the rest of the current epoch; return the learning rate of its last step.

    Args:
        recipe: what is trained.
        state: of the trial; changed in place.
        feed: the training images.
        training_step: over the state's network and optimiser; it must know how long the run is.
        after_step: called after each step, with the state complete: it may write a checkpoint, and it may raise. Its
            argument says whether the device has been waited for; it is the same on every worker.

    Raises:
        NotFiniteError: if a loss is not finite.
    """
    assert training_step.run is not None
    total = training_step.run.steps_per_epoch
    state.model.train()
    rate = learning_rate(recipe, state.epoch, max(0, state.step - 1), total)
    batches = feed.training(
        batch_size=recipe.batch_size,
        seed=training_step.seed,
        epoch=state.epoch,
        start_step=state.step,
        share=training_step.share,
        drop_last=recipe.drop_last,
    )
    for batch in batches:
        rate = learning_rate(recipe, state.epoch, state.step, total)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        loss, correct = training_step(batch, state.epoch, state.step)
        state.loss_sum += loss.double() * batch.whole
        state.correct += correct
        state.step += 1
        synced = state.device.type == "cpu" or state.step % STEPS_BETWEEN_LOSS_CHECKS == 0 or state.step == total
        if synced and not bool(torch.isfinite(state.loss_sum)):
            raise NotFiniteError(f"the training loss is not finite (epoch {state.epoch}, by step {state.step - 1})")
        after_step(synced)
    return rate


@torch.no_grad()
def evaluate(
    recipe: Recipe,
    network: nn.Module,
    model: Callable[[Tensor], Tensor],
    feed: BatchSource,
    group: WorkerGroup = SINGLE,
) -> Evaluation:
    """Return loss and accuracies on all test images, the same on every worker; each takes its share of every batch.

    Batches have the recipe's size (dopri5's steps depend on it).

    Raises:
        NotFiniteError: on every worker, if the loss or any logit is not finite. The largest of ten NaNs is the first,
            so such a network would score exactly chance.
    """
    network.eval()
    top5 = recipe.network.classes > TOP
    sums = torch.zeros(5, dtype=torch.float64)  # loss, correct, among the first five, images, logits not finite
    with effective_weights():
        for batch in feed.evaluation(batch_size=recipe.batch_size, share=group.share(group.workers)):
            if len(batch.labels) == 0:
                continue
            with autocast(recipe.precision, batch.images.device):
                logits = model(batch.images).float()
            loss = F.cross_entropy(logits, batch.labels, reduction="sum").double()
            correct = (logits.argmax(dim=1) == batch.labels).sum()
            among = _in_top(logits, batch.labels) if top5 else correct
            images = torch.full_like(loss, len(batch.labels))
            odd = (~logits.isfinite()).sum().double()
            sums = sums.to(loss.device) + torch.stack([loss, correct.double(), among.double(), images, odd])
    group.all_reduce(sums)
    loss_sum, correct_sum, among_sum, count, odd_sum = sums.tolist()
    if not math.isfinite(loss_sum):
        raise NotFiniteError("the test loss is not finite")
    if odd_sum:  # minus infinity for a class that no image has leaves the loss finite
        raise NotFiniteError("a test image's logits are not finite")
    return Evaluation(
        loss=loss_sum / count,
        accuracy=int(correct_sum) / int(count),
        top5_accuracy=int(among_sum) / int(count) if top5 else None,
    )


def _in_top(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many labels are among the classes of the five largest logits."""
    return (logits.topk(TOP, dim=1).indices == labels[:, None]).sum()
