"""Rules that store their edges as a mask and change it now and then: pruning, and dynamic sparse training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnw_core.config import LayeredConfig, SparseConfig
from dnw_core.wiring.masking import masked, straight_through, zero_outside
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import AttachedRule, WiringRule
from dnw_core.wiring.selection import largest_magnitudes, random_mask
from dnw_core.wiring.slots import Slots


class StoredMask(WiringRule):
    """Keeps its edges in the buffer ``present``, whatever the weight."""

    present: Tensor = mask_buffer("present")

    @override
    def edges(self, weight: Tensor) -> Tensor:
        return self.present


class DynamicSparseRule(StoredMask):
    """Trains a sparse network from the start, and now and then moves its edges (facts 4.3, 6).

    k edges are drawn among the usable slots. Where there is no edge the weight is zero, and stays so. When edges move,
    the smallest magnitudes are dropped and as many slots are chosen anew among all that are then free: the ones just
    dropped compete, and one that is chosen again at once is as if it had never been dropped (in RigL's released code,
    too). A new edge starts at zero.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    changes_optimiser = True

    def __init__(self, config: LayeredConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        drawn = random_mask(slots.shape, self.kept_edges, generator, slots.usable)
        self.register_mask("present", drawn, count="promised_edges")

    @override
    def on_attach(self, weight: nn.Parameter) -> None:
        with torch.no_grad():
            zero_outside(weight, self.present)

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the edges at zero; straight-through gradient."""
        return straight_through(weight, self.present)

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


class PruningRule(StoredMask):
    """Starts with every usable slot as an edge and ends with k; the number of this moment is a buffer, too.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    present_count: Tensor

    def __init__(self, config: SparseConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(slots, config.budget)
        self.refuse_too_few_usable()
        present = torch.ones(slots.shape, dtype=torch.bool) if slots.usable is None else slots.usable.clone()
        self.register_mask("present", present, count="promised_edges")
        self.register_buffer("present_count", torch.tensor(slots.usable_count, dtype=torch.int64))

    @property
    @override
    def promised_edges(self) -> int:
        return int(self.present_count)

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the present edges at zero, in value and in gradient."""
        return masked(weight, self.present)

    def keep(self, present: Tensor, count: int | Tensor) -> None:
        """Take ``present`` as the edges, ``count`` of them."""
        self.write_mask("present", present)
        self.present_count.fill_(count)

    def keep_largest(self, weight: Tensor, count: int) -> None:
        """Take the ``count`` usable slots of largest magnitude as the edges."""
        self.keep(largest_magnitudes(weight, count, self.usable), count)

    def keep_all(self) -> None:
        """Take every usable slot as an edge."""
        every = torch.ones((), dtype=torch.bool, device=self.present_count.device)
        self.keep(every if self.usable is None else self.usable, self.usable_count)


def keep_largest_of_pool(rules: Sequence[PruningRule], values: Sequence[Tensor]) -> None:
    """Give the rules the edges of largest |value| over all weights together, as many as they keep in all.

    Ties go to the first weight, and in it to the lowest index. A weight may end without an edge.

    Args:
        rules: of the weights.
        values: of each weight's slots, in its shape.
    """
    device = values[0].device  # the weights of a network may be on several devices
    flat = torch.cat([value.reshape(-1).to(device) for value in values])
    usable = None
    if any(rule.usable is not None for rule in rules):
        starts = [torch.ones_like(rule.present) if rule.usable is None else rule.usable for rule in rules]
        usable = torch.cat([start.reshape(-1).to(device) for start in starts])
    chosen = largest_magnitudes(flat, sum(rule.kept_edges for rule in rules), usable)
    for rule, mask in zip(rules, torch.split(chosen, [rule.slots.numel for rule in rules]), strict=True):
        rule.keep(mask.view(rule.slots.shape), mask.count_nonzero())
