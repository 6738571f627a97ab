"""L1 + anneal: from the complete graph down to k edges by magnitude while training, with an L1 penalty.

Nothing was published beyond that (facts 4.1), so the schedule is ours. At the end of epoch e of E the progress is

    p = ((e + 1) / E - anneal_start) / (anneal_end - anneal_start), limited to 0 ... 1 (1 after the last epoch),

and k + (usable - k) * (1 - p)**exponent edges stay: the largest magnitudes among those that are left. A pruned edge
never comes back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dnw_core.wiring.config import L1AnnealConfig
from dnw_core.wiring.masking import masked_values
from dnw_core.wiring.rule import Attached, Run, WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class _PenalisedEdges(torch.autograd.Function):
    """The masked weight; backward adds the penalty's gradient, factor * sign(w), on the edges."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(weight, mask)
        ctx.factor = factor
        return masked_values(weight, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        weight, mask = ctx.saved_tensors
        return weight.sign().mul_(ctx.factor).add_(grads[0]).mul_(mask), None, None


class L1Anneal(WiringRule):
    """Starts with every usable slot as an edge and prunes at the ends of epochs; only edges get a gradient.

    The penalty l1_weight * sum of |w| over the edges enters as its gradient, once per backward pass through the
    effective weight, so that the reported loss stays the cross entropy. Compute the effective weight once a step
    (``effective_weights``), or the penalty counts as often as it is computed.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    present: Tensor
    present_count: Tensor

    def __init__(self, config: L1AnnealConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        if slots.usable_count < self.kept_edges:
            raise ValueError(f"{self.kept_edges} edges are to be kept, but only {slots.usable_count} slots are usable")
        self.config = config
        self.epochs: int | None = None
        present = torch.ones(slots.shape, dtype=torch.bool) if slots.usable is None else slots.usable.clone()
        self.register_buffer("present", present)
        self.register_buffer("present_count", torch.tensor(slots.usable_count, dtype=torch.int64))

    @property
    def promised_edges(self) -> int:
        """How many edges are left at this moment."""
        return int(self.present_count)

    def begin(self, run: Run) -> None:
        """Learn the length of the run, which the schedule depends on."""
        self.epochs = run.epochs

    def edges(self, weight: Tensor) -> Tensor:
        """The edges that are left."""
        return self.present

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the present edges at zero; the gradient stays on the edges and holds the penalty."""
        effective: Tensor = _PenalisedEdges.apply(weight, self.present, self.config.l1_weight)
        return effective

    @torch.no_grad()
    def after_epoch(self, here: Attached, epoch: int) -> None:
        """Prune the smallest magnitudes, down to what the schedule leaves after this epoch.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        left = min(self.edges_after(epoch), self.promised_edges)
        if left < self.promised_edges:
            self.present.copy_(largest_magnitudes(here.weight, left, self.present))
            self.present_count.fill_(left)

    def edges_after(self, epoch: int) -> int:
        """Return how many edges the schedule leaves at the end of ``epoch`` (counted from 0).

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        if self.epochs is None:
            raise RuntimeError("L1Anneal does not know how long the run is: call begin(epochs) first")
        prunable = self.slots.usable_count - self.kept_edges
        to_go: float = (1.0 - self._progress(epoch + 1)) ** self.config.exponent
        return self.kept_edges + round(prunable * to_go)

    def _progress(self, finished: int) -> float:
        assert self.epochs is not None
        share, start, end = finished / self.epochs, self.config.anneal_start, self.config.anneal_end
        if start == end:
            return float(share >= start)
        # exactly 1 after the last epoch: the share is then 1, and the quotient cannot be rounded to below 1
        return min(1.0, max(0.0, (share - start) / (end - start)))
