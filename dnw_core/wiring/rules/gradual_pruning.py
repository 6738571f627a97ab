"""Gradual magnitude pruning (Zhu & Gupta 2017; Gale et al. 2019, facts 6): from every slot down to k edges.

With the run's steps finished up to a share x, the progress is

    p = (x - prune_start) / (prune_end - prune_start), limited to 0 ... 1,

and whenever p reaches another multiple of 1 / updates, the edges are selected anew: the k + (usable - k) * (1 - p)**3
largest magnitudes among all slots. A weight without an edge keeps its value and its momentum and gets no gradient, so
decay alone goes on with it; it comes back where it is among the largest at a later selection.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from dnw_core.config import GradualPruningConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.rule import AttachedRule, Run
from dnw_core.wiring.rules.stored_mask import PresentEdges
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class GradualPruning(PresentEdges):
    """Selects its edges anew on a schedule; the last selection, at the latest after the last step, leaves exactly k.

    Where the run has fewer steps than ``updates``, there is a selection after each step of the span.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    def __init__(self, config: GradualPruningConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots)
        self.config = config
        self.run: Run | None = None

    def begin(self, run: Run) -> None:
        """Learn the length of the run, which the schedule depends on."""
        self.run = run

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the present edges at zero, in value and in gradient."""
        return masked(weight, self.present)

    def after_step(self, here: AttachedRule, step: int) -> None:
        """Select the edges anew if the schedule says so.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        before = self._selections(step) if step else 0
        if self._selections(step + 1) > before:
            self._select(here.weight, self.edges_after(step + 1))

    def after_epoch(self, here: AttachedRule, epoch: int) -> None:
        """Leave k edges after the last epoch, also where it had fewer steps than were announced."""
        if self.run is not None and epoch + 1 == self.run.epochs and self.promised_edges > self.kept_edges:
            self._select(here.weight, self.kept_edges)

    def edges_after(self, finished: int) -> int:
        """Return how many edges the schedule leaves when so many steps are finished."""
        prunable = self.slots.usable_count - self.kept_edges
        to_go: float = float(1 - self._progress(finished)) ** self.config.exponent
        return self.kept_edges + round(prunable * to_go)

    def _select(self, weight: Tensor, left: int) -> None:
        self.keep(largest_magnitudes(weight, left, self.usable), left)

    def _selections(self, finished: int) -> int:
        """How many selections are due by then, of ``updates``."""
        return math.floor(self._progress(finished) * self.config.updates)

    def _progress(self, finished: int) -> Fraction:
        if self.run is None:
            raise RuntimeError("GradualPruning does not know how long the run is: call begin(run) first")
        # as fractions of the numbers as written, so that no moment is a step late
        share = Fraction(finished, self.run.steps)
        start, end = Fraction(repr(self.config.prune_start)), Fraction(repr(self.config.prune_end))
        if start == end:
            return Fraction(share >= start)
        return min(Fraction(1), max(Fraction(0), (share - start) / (end - start)))
