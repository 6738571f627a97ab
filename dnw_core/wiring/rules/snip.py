"""SNIP: one mask for the whole run, chosen by what the first batch says of each connection (facts 6).

The first step's forward and backward passes go through the complete graph. Its gradient g then scores each slot with
|w * g|, how much the loss feels that the connection is there, and the largest scores of all weights together become the
edges. Only the edges are trained from then on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import SnipConfig
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import AttachedRule, WiringRule
from dnw_core.wiring.rules.stored_mask import PruningRule, keep_largest_of_pool
from dnw_core.wiring.slots import Slots


class Snip(PruningRule):
    """Keeps every slot until the gradients of step 0 are there, then the edges chosen over all weights, for ever.

    Lee, Ajanthan, Torr: "SNIP: Single-shot Network Pruning based on Connection Sensitivity", ICLR 2019,
    arXiv:1810.02340, section 4 (connection sensitivity).

    Gradient: of the effective weight, at the edges alone.

    How many of them fall to one weight is the data's choice, and may be none: a network that needs this weight then
    computes a constant. The method is like that at small densities, and an edge put there by force would be another
    method's; the table of layers shows it.

    No weight with this rule moves in the step that chooses, the first one whose gradients are all finite and not all
    zero. Afterwards decay alone moves those without an edge, which nothing reads.
    """

    chosen: Tensor = mask_buffer("chosen")

    def __init__(self, config: SnipConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.register_mask("chosen", torch.tensor(False), count="")
        self._asked = False

    @classmethod
    @override
    def pool_promised_edges(cls, rules: Sequence[WiringRule]) -> int | None:
        """The budgets of all weights together, once the edges are chosen; before that each weight's promise says it."""
        chosen = any(isinstance(rule, Snip) and bool(rule.chosen) for rule in rules)
        return sum(rule.kept_edges for rule in rules) if chosen else None

    @override
    def decides_at(self, step: int) -> bool:
        self._asked = True
        return not self.chosen

    @classmethod
    @override
    def pool_before_step(cls, attached: Sequence[AttachedRule], step: int) -> None:
        """Choose the edges, once, at the first step with a gradient; a weight that has none scores zero everywhere."""
        if all(isinstance(here.rule, Snip) and bool(here.rule.chosen) for here in attached):
            return
        if not any(here.gradient is not None and bool(here.gradient.any()) for here in attached):
            return
        rules, scores = [], []
        for here in attached:
            assert isinstance(here.rule, Snip)
            rules.append(here.rule)
            # nothing is trained with these gradients, so they can become the scores where they are
            scores.append(torch.zeros_like(here.weight) if here.gradient is None else here.gradient.mul_(here.weight))
            here.rest()
            here.rule.write_mask("chosen", torch.tensor(True))
        keep_largest_of_pool(rules, scores)

    @override
    def after_epoch(self, here: AttachedRule, epoch: int) -> None:
        """See that the edges were chosen.

        Raises:
            RuntimeError: if no step was told of, so that the graph would silently stay complete.
        """
        if not self.chosen and not self._asked:
            raise RuntimeError("SNIP chooses its edges before the first step, which it was not told of")
        if not self.chosen:
            warnings.warn(
                f"SNIP keeps all edges of {here.name} until a step has finite gradients that are not zero, and none "
                "had yet",
                stacklevel=3,
            )
