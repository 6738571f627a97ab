"""What the rules have in common that train a sparse network and now and then move its edges (facts 4.3, 6).

k edges are drawn at the start. Where there is no edge the weight is zero, and stays so. When edges move, the smallest
magnitudes are dropped and as many slots are chosen anew among all that are then free: the ones just dropped compete,
and one that is chosen again at once is as if it had never been dropped (in RigL's released code, too). A new edge
starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dnw_core.config import LayeredConfig, SparseConfig
from dnw_core.wiring.masking import zero_outside
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.random_edges import random_mask
from dnw_core.wiring.rule import AttachedRule, WiringRule
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

    def move(self, here: AttachedRule, present: Tensor) -> Tensor:
        """Take ``present`` as the edges, as many as promised; the weight becomes zero at new and at former ones.

        Returns:
            The mask of the edges that stayed.
        """
        stayed = self.present & present
        zero_outside(here.weight, stayed)
        self.write_mask("present", present)
        return stayed


class PresentEdges(WiringRule):
    """Keeps its edges and their promised number in buffers; at first every usable slot is one.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    usable: Tensor | None = mask_buffer("usable")
    present: Tensor = mask_buffer("present")
    present_count: Tensor

    def __init__(self, config: SparseConfig, slots: Slots) -> None:
        super().__init__(slots, config.budget)
        self.refuse_too_few_usable()
        # follows from the network alone, so it need not be in the checkpoint
        self.register_mask("usable", slots.usable, count="usable_count", persistent=False)
        present = torch.ones(slots.shape, dtype=torch.bool) if slots.usable is None else slots.usable.clone()
        self.register_mask("present", present, count="promised_edges")
        self.register_buffer("present_count", torch.tensor(slots.usable_count, dtype=torch.int64))

    @property
    def promised_edges(self) -> int:
        """How many edges there are at this moment."""
        return int(self.present_count)

    def edges(self, weight: Tensor) -> Tensor:
        """The edges of this moment, whatever the weight."""
        return self.present

    def keep(self, present: Tensor, count: int | Tensor) -> None:
        """Take ``present`` as the edges, ``count`` of them."""
        self.write_mask("present", present)
        self.present_count.fill_(count)

    def keep_all(self) -> None:
        """Take every usable slot as an edge."""
        every = torch.ones((), dtype=torch.bool, device=self.present_count.device)
        self.keep(every if self.usable is None else self.usable, self.slots.usable_count)


def keep_largest_together(rules: Sequence[PresentEdges], values: Sequence[Tensor]) -> None:
    """Give the rules the edges of largest |value| over all weights together, as many as they keep in all.

    Ties go to the first weight, and in it to the lowest index. A weight may end with no edge at all.

    Args:
        rules: of the weights.
        values: of each weight's slots, in its shape.
    """
    device = values[0].device  # a network may lie on several
    flat = torch.cat([value.reshape(-1).to(device) for value in values])
    usable = None
    if any(rule.usable is not None for rule in rules):
        starts = [torch.ones_like(rule.present) if rule.usable is None else rule.usable for rule in rules]
        usable = torch.cat([start.reshape(-1).to(device) for start in starts])
    chosen = largest_magnitudes(flat, sum(rule.kept_edges for rule in rules), usable)
    for rule, mask in zip(rules, torch.split(chosen, [rule.slots.numel for rule in rules]), strict=True):
        rule.keep(mask.view(rule.slots.shape), mask.count_nonzero())
