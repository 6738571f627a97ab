"""L1 + anneal: from the complete graph down to k edges by magnitude while training, with an L1 penalty.

Nothing was published beyond that (facts 4.1), so the schedule is ours. At the end of epoch e of E the progress is

    p = ((e + 1) / E - anneal_start) / (anneal_end - anneal_start), limited to 0 ... 1 (1 after the last epoch),

and k + (usable - k) * (1 - p)**exponent edges stay: the largest magnitudes among those that are left. A pruned edge
never comes back.
"""

from __future__ import annotations

import torch
from typing_extensions import override

from dnw_core.config import L1AnnealConfig
from dnw_core.wiring.masking import masked_values
from dnw_core.wiring.rule import AttachedRule
from dnw_core.wiring.rules.stored_mask import PruningRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class L1Anneal(PruningRule):
    """Starts with every usable slot as an edge and prunes at the ends of epochs.

    Wortsman, Farhadi, Rastegari: "Discovering Neural Wirings", NeurIPS 2019, arXiv:1906.00586: the row "L1 + Anneal".

    Gradient: of the effective weight plus l1_weight * sign(w), at the edges alone. The penalty l1_weight * sum of |w|
    enters as this gradient, once a step, so that the reported loss stays the cross entropy. It is added when all
    workers' gradients are summed, or it would count once a worker.
    """

    needs_run = True

    def __init__(self, config: L1AnnealConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.config = config

    @override
    def before_step(self, here: AttachedRule, step: int) -> None:
        """Add the penalty's gradient, l1_weight * sign(w), on the edges."""
        if here.gradient is not None:
            here.gradient.add_(masked_values(here.weight.sign().mul_(self.config.l1_weight), self.present))

    @torch.no_grad()
    @override
    def after_epoch(self, here: AttachedRule, epoch: int) -> None:
        """Prune the smallest magnitudes, down to what the schedule leaves after this epoch.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        left = min(self.edges_after(epoch), self.promised_edges)
        if left < self.promised_edges:
            self.keep(largest_magnitudes(here.weight, left, self.present), left)

    def edges_after(self, epoch: int) -> int:
        """Return how many edges the schedule leaves at the end of ``epoch`` (counted from 0).

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        prunable = self.usable_count - self.kept_edges
        to_go: float = (1.0 - self._progress((epoch + 1) / self.known_run().epochs)) ** self.config.exponent
        return self.kept_edges + round(prunable * to_go)

    def _progress(self, share: float) -> float:
        start, end = self.config.anneal_start, self.config.anneal_end
        if start == end:
            return float(share >= start)
        # exactly 1 after the last epoch: the share is then 1, and the quotient cannot be rounded to below 1
        return min(1.0, max(0.0, (share - start) / (end - start)))
