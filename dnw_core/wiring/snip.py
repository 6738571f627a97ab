"""SNIP (Lee et al. 2019, facts 6): one mask for the whole run, chosen by what the first batch says of each connection.

The first step's forward and backward passes go through the complete graph. Its gradient g then scores each slot with
|w * g|, how much the loss feels that the connection is there, and the largest scores of all weights together become the
edges. Only the edges are trained from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dnw_core.wiring.later_config import SnipConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.present import PresentEdges, keep_largest_together
from dnw_core.wiring.rule import Attached, WiringRule
from dnw_core.wiring.slots import Slots


class Snip(PresentEdges):
    """Keeps every slot until the gradients of step 0 are there, then the edges chosen over all weights, for ever.

    How many of them fall to one weight is the data's choice, and may be none: a network that needs this weight then
    computes a constant. The method is like that at small densities, and an edge put there by force would be another
    method's; the table of layers shows it.

    No weight with this rule moves in step 0. Afterwards decay alone moves those without an edge, which nothing reads.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    chosen: Tensor

    def __init__(self, config: SnipConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots)
        self.register_buffer("chosen", torch.tensor(False))

    @classmethod
    def promised_together(cls, rules: Sequence[WiringRule]) -> int | None:
        """The budgets of all weights together, once the edges are chosen; before that each weight's promise says it."""
        chosen = any(isinstance(rule, Snip) and bool(rule.chosen) for rule in rules)
        return sum(rule.kept_edges for rule in rules) if chosen else None

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the present edges at zero, in value and in gradient."""
        return masked(weight, self.present)

    @classmethod
    def before_step_together(cls, places: Sequence[Attached], step: int) -> None:
        """Choose the edges, once, at step 0; a weight whose gradient is None scores zero everywhere."""
        if step:
            return
        rules, scores = [], []
        for place in places:
            assert isinstance(place.rule, Snip)
            rules.append(place.rule)
            # nothing is trained with these gradients, so they can become the scores where they are
            scores.append(
                torch.zeros_like(place.weight) if place.gradient is None else place.gradient.mul_(place.weight)
            )
            place.weight.grad = None
            place.rule.chosen.fill_(True)
        keep_largest_together(rules, scores)

    def after_epoch(self, here: Attached, epoch: int) -> None:
        """See that the edges were chosen.

        Raises:
            RuntimeError: if there was no step 0, so that the graph would silently stay complete.
        """
        if not self.chosen:
            raise RuntimeError("SNIP chooses its edges at step 0, which it was not told of: steps count from 0")
