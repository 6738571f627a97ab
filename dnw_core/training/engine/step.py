"""One training step: the batch through the network group by group, one backward pass, one optimiser step.

The groups are the parts of a batch with batch statistics of their own (facts Q19); most recipes have one, the whole
batch. The effective weights are computed once for all groups, so the loss is one sum over them and there is one
backward pass. On several workers each computes the groups of its share, and the gradients are summed; who computes a
group changes nothing but the order of sums: also what is drawn at random in a group depends on its place alone. The
wiring rules act on the summed gradients, so each worker's rules do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.config import Recipe
from dnw_core.data.feeds.feed import Batch
from dnw_core.seeds import derive_seed
from dnw_core.training.engine.batch_statistics import batch_norms, frozen_running_stats
from dnw_core.training.engine.gradient_sum import GradientSum
from dnw_core.training.engine.group import SINGLE, WorkerGroup
from dnw_core.training.engine.numerics import autocast
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run, effective_weights


class TrainingStep:
    """The step of one worker, single or in a group.

    Args:
        recipe: what is trained.
        network: the module whose parameters are trained.
        optimiser: over these parameters.
        model: computes the network's logits; None for the network itself (else its compiled form).
        seed: the trial's.
        group: the workers.
        run: its length, by which the rules count steps and the learning rate falls; None for single steps.

    Attributes:
        wiring: the network's rules, called before and after the optimiser's step.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        model: Callable[[Tensor], Tensor] | None = None,
        *,
        seed: int = 0,
        group: WorkerGroup = SINGLE,
        run: Run | None = None,
    ) -> None:
        self.recipe, self.optimiser, self.seed, self.run = recipe, optimiser, seed, run
        self.model = network if model is None else model
        self.share = group.share(recipe.batch_groups)
        self.norms = batch_norms(network)
        self.wiring = Wiring(network, optimiser)
        self.wants_stop = False
        self.sum = (
            None if group.is_single else GradientSum(group, [one for one in network.parameters() if one.requires_grad])
        )

    def __call__(self, batch: Batch, epoch: int = 0, step: int = 0) -> tuple[Tensor, Tensor]:
        """Do one optimiser step; return the whole batch's mean loss and its number of correct images, on the device.

        Args:
            batch: this worker's share of it.
            epoch: counted from 0.
            step: counted from 0 within the epoch.
        """
        self.optimiser.zero_grad(set_to_none=True)
        loss = correct = None
        if len(batch.labels):
            loss, correct = self._backward(batch, epoch, step)
        if self.sum is not None:
            loss, correct = self.sum(loss, correct, stop=self.wants_stop)
        assert loss is not None
        assert correct is not None
        of_run = step if self.run is None else epoch * self.run.steps_per_epoch + step
        self.wiring.before_step(of_run)
        self.optimiser.step()
        self.wiring.after_step(of_run)
        return loss, correct

    def stop_agreed(self) -> bool:
        """Whether the workers agreed, with the last step, to stop after it. Waits for the device."""
        return self.sum is not None and self.sum.stop_agreed()

    def _backward(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Compute the gradients of this worker's part of the mean loss; return that part, and the correct images."""
        recipe, sizes = self.recipe, self.share.sizes(batch.whole)
        labels = [part for part in torch.split(batch.labels, sizes) if len(part)]
        with effective_weights():
            with autocast(recipe.precision, batch.images.device):
                images = [part for part in torch.split(batch.images, sizes) if len(part)]
                first = self.share.rank * len(sizes)
                logits = [self._logits(part, first + index, epoch, step) for index, part in enumerate(images)]
            losses = [
                F.cross_entropy(found.float(), right, reduction="sum", label_smoothing=recipe.label_smoothing)
                for found, right in zip(logits, labels, strict=True)
            ]
            loss = sum(losses[1:], start=losses[0]) / batch.whole
            loss.backward()  # type: ignore[no-untyped-call]
        correct = [(found.detach().argmax(dim=1) == right).sum() for found, right in zip(logits, labels, strict=True)]
        return loss.detach(), sum(correct[1:], start=correct[0])

    def _logits(self, images: Tensor, group: int, epoch: int, step: int) -> Tensor:
        """Return the logits of one group, ``group`` counted over the whole batch."""
        if self.share.groups == 1:
            return self.model(images)
        statistics: AbstractContextManager[None] = nullcontext() if group == 0 else frozen_running_stats(self.norms)
        with statistics, _seeded(derive_seed(self.seed, "group", epoch, step, group), images.device):
            return self.model(images)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw random numbers from this seed, and leave the process's random states as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
