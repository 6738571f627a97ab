"""What the rules have in common that start from the complete graph and take edges away, now and then."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dnw_core.wiring.config_base import SparseConfig
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


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
