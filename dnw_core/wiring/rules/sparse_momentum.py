"""Sparse momentum: edges move within and between weights to where the momentum is (facts 4.3).

A random sparse network is trained, and the dense gradient goes to every slot: its weight is set back to zero after each
step, its momentum stays, also that of a dropped edge. At every epoch's end, also the last, over all weights together,

* a weight's share is the mean |momentum| over its edges, divided by the sum of all weights' means;
* each weight drops the fraction r of its edges, rounded up: the smallest |w|, whatever their signs;
* the dropped total is regrown, divided by the shares, in the free slots of largest |momentum|. What exceeds a
  weight's free slots goes to the others equally.

r falls with the steps done, from drop_fraction to last_drop_fraction, by half a cosine. A weight that is more than 80 %
dense and has more than an average share would lose edges that it can hardly make up for, so it drops at most the
fraction of its slots that is free; a full one drops none.

Two things differ from the released code. It rounds each weight's number up, fills no weight beyond 99 % of its free
slots, and corrects the total by an estimate that converges; here largest remainders make it exact. It evaluates a
network before the edges move; here that comes after, so that what is reported is what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import SparseMomentumConfig
from dnw_core.errors import UserError
from dnw_core.wiring.layers import divide
from dnw_core.wiring.masking import masked_values, zero_outside
from dnw_core.wiring.momenta import no_momentum
from dnw_core.wiring.rule import AttachedRule, WiringRule
from dnw_core.wiring.rules.stored_mask import DynamicSparseRule
from dnw_core.wiring.selection import largest_magnitudes
from dnw_core.wiring.slots import Slots


class SparseMomentum(DynamicSparseRule):
    """Moves edges within and between weights; their number over all weights is exact. A weight may lose its last edge.

    Dettmers, Zettlemoyer: "Sparse Networks from Scratch: Faster Training without Losing Performance", 2019,
    arXiv:1907.04840, section 3.

    Gradient: of the effective weight, straight through to every slot.

    A weight that has no momentum, because nothing was learned of it, keeps its edges and takes no part; so do all if
    no edge has any momentum, or one is not finite.
    """

    needs_run = True
    reads_momentum = True
    present_count: Tensor

    def __init__(self, config: SparseMomentumConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.config = config
        self.register_buffer("present_count", torch.tensor(self.kept_edges, dtype=torch.int64))

    @property
    @override
    def promised_edges(self) -> int:
        return int(self.present_count)

    @property
    def free_count(self) -> int:
        """How many usable slots have no edge at this moment."""
        return self.usable_count - self.promised_edges

    @classmethod
    @override
    def pool_promised_edges(cls, rules: Sequence[WiringRule]) -> int:
        return sum(rule.kept_edges for rule in rules)

    @override
    def after_step(self, here: AttachedRule, step: int) -> None:
        """Set the weight back to zero where there is no edge."""
        zero_outside(here.weight, self.present)

    @classmethod
    @override
    def pool_after_epoch(cls, attached: Sequence[AttachedRule], epoch: int) -> None:
        """Drop, and regrow elsewhere.

        Raises:
            RuntimeError: if ``begin`` was never called.
            UserError: if the optimiser keeps no momentum.
        """
        learned = [here for here in attached if here.momentum is not None]
        if not learned and any(here.optimiser is not None and here.gradient is not None for here in attached):
            raise UserError(no_momentum(cls.__name__))
        rules = [cast(SparseMomentum, here.rule) for here in learned]
        means = [rule.mean_momentum(here) for rule, here in zip(rules, learned, strict=True)]
        total = sum(means)
        if not 0 < total < math.inf:
            return
        dropped = [
            rule.dropped_edges(epoch, growing=mean * len(means) > total)
            for rule, mean in zip(rules, means, strict=True)
        ]
        rooms = [rule.free_count + gone for rule, gone in zip(rules, dropped, strict=True)]
        grown = divide(sum(dropped), means, rooms)
        for rule, here, gone, new in zip(rules, learned, dropped, grown, strict=True):
            rule.exchange(here, gone, new)

    def mean_momentum(self, here: AttachedRule) -> float:
        """Return the mean |momentum| over the edges; 0 if there is no edge."""
        assert here.momentum is not None
        edges = self.promised_edges
        return float(masked_values(here.momentum, self.present).abs_().sum(dtype=torch.float64)) / max(1, edges)

    def drop_fraction(self, finished: int) -> float:
        """Return r after the steps of so many ``finished`` epochs.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        first, last = self.config.drop_fraction, self.config.last_drop_fraction
        return last + (first - last) / 2 * (1 + math.cos(math.pi * min(1.0, finished / self.known_run().epochs)))

    def dropped_edges(self, epoch: int, growing: bool) -> int:
        """Return how many edges this weight drops at the end of ``epoch``.

        Args:
            epoch: counted from 0.
            growing: whether its share of the momentum is above the average.
        """
        edges, free = self.promised_edges, self.free_count
        slots = edges + free
        dropped = math.ceil(self.drop_fraction(epoch + 1) * edges)
        if growing and 5 * free < slots:
            dropped = min(dropped, -(-free * edges // slots))
        return dropped

    def exchange(self, here: AttachedRule, dropped: int, grown: int) -> None:
        """Drop as many edges by magnitude, then grow as many by momentum."""
        assert here.momentum is not None
        left = self.promised_edges - dropped
        remaining = self.after_dropping(here.weight, left)
        self.move(here, remaining | largest_magnitudes(here.momentum, grown, self.free(remaining)))
        self.present_count.fill_(left + grown)
