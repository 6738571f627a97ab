"""RigL: now and then the smallest edges go, and others grow where the gradient is largest (facts 6).

It looks at the gradient when the optimiser is about to use it: by then the workers' gradients have been summed, and all
of them grow the same edges.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dnw_core.wiring.drop_and_grow import DropAndGrow
from dnw_core.wiring.later_config import RigLConfig
from dnw_core.wiring.slots import Slots


class RigL(DropAndGrow):
    """Keeps exactly k edges of each weight; grows by the magnitude of the gradient."""

    def __init__(self, config: RigLConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)

    def growth_scores(self, gradient: Tensor) -> Tensor:
        """The gradient."""
        return gradient
