"""Gradual magnitude pruning: from every slot down to k edges (facts 6).

With the run's steps finished up to a share x, the progress is

    p = (x - prune_start) / (prune_end - prune_start), limited to 0 ... 1,

and whenever p reaches another multiple of 1 / updates, the edges are selected anew: the k + (usable - k) * (1 - p)**3
largest magnitudes among all slots.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from typing_extensions import override

from dnw_core.config import GradualPruningConfig
from dnw_core.wiring.rule import AttachedRule
from dnw_core.wiring.rules.stored_mask import PruningRule
from dnw_core.wiring.slots import Slots


class GradualMagnitudePruning(PruningRule):
    """Selects its edges anew on a schedule; the last selection, at the latest after the last step, leaves exactly k.

    Zhu, Gupta: "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017,
    arXiv:1710.01878, equation 1 (the cubic schedule); as in Gale, Elsen, Hooker: "The State of Sparsity in Deep Neural
    Networks", 2019, arXiv:1902.09574.

    Gradient: of the effective weight, at the edges alone. A weight without an edge keeps its value and its momentum,
    so decay and momentum go on with it; it comes back where it is among the largest at a later selection.

    Where the run has fewer steps than ``updates``, there is a selection after each step of the span.
    """

    needs_run = True

    def __init__(self, config: GradualPruningConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.config = config

    @override
    def after_step(self, here: AttachedRule, step: int) -> None:
        """Select the edges anew if the schedule says so.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        before = self._selections(step) if step else 0
        if self._selections(step + 1) > before:
            self.keep_largest(here.weight, self.edges_after(step + 1))

    @override
    def after_epoch(self, here: AttachedRule, epoch: int) -> None:
        """Leave k edges after the last epoch, also where it had fewer steps than were announced.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        if epoch + 1 == self.known_run().epochs and self.promised_edges > self.kept_edges:
            self.keep_largest(here.weight, self.kept_edges)

    def edges_after(self, finished: int) -> int:
        """Return how many edges the schedule leaves when so many steps are finished."""
        prunable = self.usable_count - self.kept_edges
        to_go: float = float(1 - self._progress(finished)) ** self.config.exponent
        return self.kept_edges + round(prunable * to_go)

    def _selections(self, finished: int) -> int:
        """How many selections are due by then, of ``updates``."""
        return math.floor(self._progress(finished) * self.config.updates)

    def _progress(self, finished: int) -> Fraction:
        # as fractions of the numbers as written, so that no moment is a step late
        share = Fraction(finished, self.known_run().steps)
        start, end = Fraction(repr(self.config.prune_start)), Fraction(repr(self.config.prune_end))
        if start == end:
            return Fraction(share >= start)
        return min(Fraction(1), max(Fraction(0), (share - start) / (end - start)))
