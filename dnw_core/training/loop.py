"""The training loop, one for every row: what differs is in the recipe.

``train_epoch`` and ``evaluate`` know nothing of files, checkpoints or scheduling; ``trial`` adds those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.data.batches import DeviceImages, evaluation_batches, steps_per_epoch, training_batches
from dnw_core.errors import TrialFailed
from dnw_core.recipe import Recipe
from dnw_core.training.numerics import autocast
from dnw_core.training.schedule import learning_rate
from dnw_core.training.state import TrainingState
from dnw_core.wiring.rule import Attached, attached_rules, effective_weights

# reading the loss waits for the device, so on a GPU it is looked at only now and then
STEPS_BETWEEN_LOSS_CHECKS = 25


@dataclass(frozen=True)
class Evaluation:
    """Scores on the test images."""

    loss: float
    accuracy: float


def make_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum over every parameter, decay included: norms, biases and unselected edges (facts 3)."""
    settings = recipe.optimiser
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def training_step(
    recipe: Recipe, model: Callable[[Tensor], Tensor], optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Do one optimiser step on a batch; return its mean loss and its number of correct images, on the device."""
    optimiser.zero_grad(set_to_none=True)
    with effective_weights():
        with autocast(recipe.precision, images.device):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()


def train_epoch(
    recipe: Recipe,
    state: TrainingState,
    data: DeviceImages,
    model: Callable[[Tensor], Tensor],
    seed: int,
    after_step: Callable[[], None],
) -> float:
    """Train the rest of the current epoch; return the learning rate of its last step.

    ``after_step`` is called after each step, with the state complete: it may checkpoint, and it may raise.

    Raises:
        TrialFailed: if a loss is not finite.
    """
    total = steps_per_epoch(len(data), recipe.batch_size)
    rules = list(attached_rules(state.model))
    state.model.train()
    rate = learning_rate(recipe, state.epoch, max(0, state.step - 1), total)
    batches = training_batches(
        data, recipe.data, batch_size=recipe.batch_size, seed=seed, epoch=state.epoch, start_step=state.step
    )
    for images, labels in batches:
        rate = learning_rate(recipe, state.epoch, state.step, total)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        loss, correct = training_step(recipe, model, state.optimiser, images, labels)
        _after_step(rules, state.epoch * total + state.step)
        state.loss_sum += loss.double() * len(labels)
        state.correct += correct
        state.step += 1
        if state.device.type == "cpu" or state.step % STEPS_BETWEEN_LOSS_CHECKS == 0 or state.step == total:
            _refuse_not_finite(state)
        after_step()
    return rate


def _after_step(rules: list[Attached], step: int) -> None:
    with torch.no_grad():
        for attached in rules:
            attached.rule.after_step(attached.weight, step)


def _refuse_not_finite(state: TrainingState) -> None:
    if not bool(torch.isfinite(state.loss_sum)):
        raise TrialFailed(f"the training loss is not finite (epoch {state.epoch}, by step {state.step - 1})")


@torch.no_grad()
def evaluate(recipe: Recipe, network: nn.Module, model: Callable[[Tensor], Tensor], data: DeviceImages) -> Evaluation:
    """Return loss and accuracy on all test images, at the recipe's batch size (dopri5's steps depend on it)."""
    network.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=data.device)
    correct = torch.zeros((), dtype=torch.int64, device=data.device)
    count = 0
    with effective_weights():
        for images, labels in evaluation_batches(data, batch_size=recipe.batch_size):
            with autocast(recipe.precision, images.device):
                logits = model(images).float()
            loss_sum += F.cross_entropy(logits, labels, reduction="sum").double()
            correct += (logits.argmax(dim=1) == labels).sum()
            count += len(labels)
    return Evaluation(loss=float(loss_sum) / count, accuracy=int(correct) / count)
