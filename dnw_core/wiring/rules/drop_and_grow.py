"""SET and RigL: now and then the smallest edges are dropped and as many others grow (facts 6).

The moments are ``updates`` steps, evenly spaced over the first ``updates_end`` share of the run, never its first step.
Edges that moved need steps to learn in, so a short run has fewer: one in ten steps, but two at least. With t the step
and T the end of that share, the fraction

    drop_fraction / 2 * (1 + cos(pi * t / T))

of a weight's edges is dropped, rounded down to whole edges; the last update is at T and drops none. The count of each
weight never changes. In a step that moves a weight's edges the optimiser passes that weight over (in RigL's released
code all weights, once in 100 steps).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from fractions import Fraction

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import DropAndGrowConfig, SetConfig
from dnw_core.seeds import derive_seed
from dnw_core.wiring.masking import zero_outside
from dnw_core.wiring.rule import AttachedRule
from dnw_core.wiring.rules.stored_mask import DynamicSparseRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots

LEAST_STEPS = 10  # from one update to the next; in the published runs there are a hundred


class DropAndGrow(DynamicSparseRule):
    """Drops the smallest magnitudes; subclasses say where edges grow. Momentum starts anew where an edge moved.

    Gradient: of the effective weight, at every slot up to ``before_step``, which keeps that of the edges alone.
    """

    needs_run = True

    def __init__(self, config: DropAndGrowConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.config = config
        self._updates_end = Fraction(repr(config.updates_end))  # as written
        self._moved_at: int | None = None

    @abstractmethod
    def growth_scores(self, gradient: Tensor) -> Tensor:
        """Return what free slots are ranked by, of the weight's shape: the largest magnitudes grow."""

    @override
    def resumed(self) -> None:
        self._moved_at = None  # any step may move edges

    @override
    def decides_at(self, step: int) -> bool:
        return self.is_update(step)

    @override
    def before_step(self, here: AttachedRule, step: int) -> None:
        """Move edges if it is time to, in place of the weight's gradient step; a weight that learned nothing rests.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        if here.gradient is None:
            return
        # a closure may be called more than once in a step, and edges move once
        due = self.is_update(step) and step != self._moved_at
        dropped = int(self.fraction_at(step) * self.kept_edges) if due else 0
        if dropped == 0:
            zero_outside(here.gradient, self.present)
            return
        remaining = self.after_dropping(here.weight, self.kept_edges - dropped)
        grown = largest_magnitudes(self.growth_scores(here.gradient), dropped, self.free(remaining))
        stayed = self.move(here, remaining | grown)
        if here.momentum is not None:
            zero_outside(here.momentum, stayed)
        self._moved_at = step
        here.rest()

    def last_update(self) -> Fraction:
        """Return the step of the last update.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        return self._updates_end * self.known_run().steps

    def is_update(self, step: int) -> bool:
        """Whether edges move at ``step`` (counted from 0).

        Raises:
            RuntimeError: as ``last_update``.
        """
        end = self.last_update()
        updates = min(self.config.updates, max(2, int(end / LEAST_STEPS)))
        # the update of number n is due at the first step that is not before n * end / updates
        return 1 <= step <= end and updates * step // end > updates * (step - 1) // end

    def fraction_at(self, step: int) -> float:
        """Return the fraction of the edges that an update at ``step`` drops.

        Raises:
            RuntimeError: as ``last_update``.
        """
        return self.config.drop_fraction / 2 * (1 + math.cos(math.pi * float(step / self.last_update())))


class SparseEvolutionaryTraining(DropAndGrow):
    """SET: keeps exactly k edges of each weight; every free slot is as likely to grow.

    Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta: "Scalable training of artificial neural networks with adaptive
    sparse connectivity inspired by network science", Nature Communications 9:2383, 2018, arXiv:1707.04780 (sparse
    evolutionary training; here as RigL's authors compare with it).

    What grows is a function of two buffers, a seed and the number of draws done, so that it is the same after a
    resume and on every worker.
    """

    seed: Tensor
    draws: Tensor

    def __init__(self, config: SetConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.register_buffer("seed", torch.randint(2**63 - 1, (), generator=generator, dtype=torch.int64))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    @override
    def growth_scores(self, gradient: Tensor) -> Tensor:
        """Uniform random numbers, in double precision so that ties are rare."""
        drawn = torch.Generator(gradient.device).manual_seed(derive_seed(int(self.seed), int(self.draws)))
        self.draws += 1
        return torch.rand(self.slots.shape, generator=drawn, dtype=torch.float64, device=gradient.device)


class RigL(DropAndGrow):
    """Keeps exactly k edges of each weight; grows where the gradient is largest.

    Evci, Gale, Menick, Castro, Elsen: "Rigging the Lottery: Making All Tickets Winners", ICML 2020, arXiv:1911.11134,
    section 3 (the algorithm).
    """

    @override
    def growth_scores(self, gradient: Tensor) -> Tensor:
        return gradient
