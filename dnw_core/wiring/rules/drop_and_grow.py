"""What SET and RigL share: now and then the smallest edges go and as many others come (facts 6).

The moments are ``updates`` steps, evenly spaced over the first ``updates_end`` share of the run, never its first step.
Edges that moved need steps to learn in, so a short run has fewer: one in ten steps, but two at least. With t the step
and T the end of that share, the fraction

    drop_fraction / 2 * (1 + cos(pi * t / T))

of a weight's edges is dropped, rounded down to whole edges; the last update falls on T and drops none. The count of
each weight never changes. In a step that moves a weight's edges the optimiser passes that weight over (in RigL's
released code all weights, once in 100 steps).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from fractions import Fraction

import torch
from torch import Tensor

from dnw_core.config import DropAndGrowConfig, RigLConfig, SetConfig
from dnw_core.seeds import derive_seed
from dnw_core.wiring.masking import straight_through, zero_outside
from dnw_core.wiring.rule import AttachedRule, Run
from dnw_core.wiring.rules.stored_mask import MovingEdges
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots

LEAST_STEPS = 10  # from one update to the next; in the published runs there are a hundred


class DropAndGrow(MovingEdges):
    """Drops the smallest magnitudes; subclasses say where edges grow. Momentum starts anew where an edge moved."""

    def __init__(self, config: DropAndGrowConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.config = config
        self.end: Fraction | None = None
        self.updates = config.updates
        self._moved_at: int | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the edges at zero; straight-through gradient, masked later."""
        return straight_through(weight, self.present)

    def decides_at(self, step: int) -> bool:
        """Where edges move."""
        return self.is_update(step)

    @abstractmethod
    def growth_scores(self, gradient: Tensor) -> Tensor:
        """Return what free slots are ranked by, of the weight's shape: the largest magnitudes grow."""

    def begin(self, run: Run) -> None:
        """Learn the length of the run, which the schedule depends on."""
        self.resumed()
        self.end = Fraction(repr(self.config.updates_end)) * run.steps
        self.updates = min(self.config.updates, max(2, int(self.end / LEAST_STEPS)))

    def resumed(self) -> None:
        """Any step may move edges."""
        self._moved_at = None

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

    def is_update(self, step: int) -> bool:
        """Whether edges move at ``step`` (counted from 0).

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        end = self._known_end()
        # the update of number n is due at the first step that is not before n * end / updates
        return 1 <= step <= end and self.updates * step // end > self.updates * (step - 1) // end

    def fraction_at(self, step: int) -> float:
        """Return the fraction of the edges that an update at ``step`` drops.

        Raises:
            RuntimeError: as ``is_update``.
        """
        return self.config.drop_fraction / 2 * (1 + math.cos(math.pi * float(step / self._known_end())))

    def _known_end(self) -> Fraction:
        if self.end is None:
            raise RuntimeError(f"{type(self).__name__} does not know how long the run is: call begin(run) first")
        return self.end


class Set(DropAndGrow):
    """Keeps exactly k edges of each weight; every free slot is as likely to grow.

    What grows is a function of two buffers, a seed and the number of draws done, so that it is the same after a
    resume and on every worker.
    """

    seed: Tensor
    draws: Tensor

    def __init__(self, config: SetConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.register_buffer("seed", torch.randint(2**63 - 1, (), generator=generator, dtype=torch.int64))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def growth_scores(self, gradient: Tensor) -> Tensor:
        """Uniform random numbers, in double precision lest there be ties."""
        drawn = torch.Generator(gradient.device).manual_seed(derive_seed(int(self.seed), int(self.draws)))
        self.draws += 1
        return torch.rand(self.slots.shape, generator=drawn, dtype=torch.float64, device=gradient.device)


class RigL(DropAndGrow):
    """Keeps exactly k edges of each weight; grows by the magnitude of the gradient."""

    def __init__(self, config: RigLConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)

    def growth_scores(self, gradient: Tensor) -> Tensor:
        """The gradient."""
        return gradient
