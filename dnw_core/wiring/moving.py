"""What the rules have in common that train a sparse network and now and then move its edges (facts 4.3, 6).

k edges are drawn at the start. Where there is no edge the weight is zero, and stays so. When edges move, the smallest
magnitudes are dropped and as many slots are chosen anew among all that are then free: the ones just dropped compete,
and one that is chosen again at once is as if it had never been dropped (in RigL's released code, too). A new edge
starts at zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnw_core.wiring.config_base import LayeredConfig
from dnw_core.wiring.masking import zero_outside
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.random_edges import random_mask
from dnw_core.wiring.rule import Attached, WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class MovingEdges(WiringRule):
    """Keeps its edges in a buffer; they are drawn among the usable slots.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    changes_optimiser = True
    present: Tensor = mask_buffer("present")
    usable: Tensor | None = mask_buffer("usable")

    def __init__(self, config: LayeredConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        # follows from the network alone, so it need not be in the checkpoint
        self.register_mask("usable", slots.usable, count="usable_count", persistent=False)
        drawn = random_mask(slots.shape, self.kept_edges, generator, slots.usable)
        self.register_mask("present", drawn, count="promised_edges")

    def adopt(self, weight: nn.Parameter) -> None:
        """Set the weight to zero where there is no edge."""
        with torch.no_grad():
            zero_outside(weight, self.present)

    def edges(self, weight: Tensor) -> Tensor:
        """The edges of this moment, whatever the weight."""
        return self.present

    def after_dropping(self, weight: Tensor, left: int) -> Tensor:
        """Return the mask of the ``left`` present edges of largest magnitude."""
        return largest_magnitudes(weight, left, self.present)

    def free(self, remaining: Tensor) -> Tensor:
        """Return the mask of the slots where an edge can grow beside the ``remaining`` ones."""
        return ~remaining if self.usable is None else ~remaining & self.usable

    def move(self, here: Attached, present: Tensor) -> Tensor:
        """Take ``present`` as the edges, as many as promised; the weight becomes zero at new and at former ones.

        Returns:
            The mask of the edges that stayed.
        """
        stayed = self.present & present
        zero_outside(here.weight, stayed)
        self.write_mask("present", present)
        return stayed
