"""SET: now and then the smallest edges go, and others grow at random (facts 6)."""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.seeds import derive_seed
from dnw_core.wiring.drop_and_grow import DropAndGrow
from dnw_core.wiring.later_config import SetConfig
from dnw_core.wiring.slots import Slots


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
