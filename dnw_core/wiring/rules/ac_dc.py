"""AC/DC: dense and sparse phases in turn (facts 6).

At the end of a dense phase the largest magnitudes of all weights together become the edges, and all others are set to
zero; in the sparse phase only edges are trained; then all weights are trained again, from zero where there was no edge
and with no momentum anywhere. The last phase is sparse.

At the published 100 epochs, with the lengths of ``AcDcConfig``: dense 0-9; then five epochs each, sparse 10-14, dense
15-19, sparse 20-24, ..., dense 65-69, sparse 70-74; dense 75-84; sparse 85-99. The last dense phase is the longer one
because a sparse phase at 80-84 would run into the last one. That, and every length but the five epochs, is from memory,
UNVERIFIED.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import AcDcConfig
from dnw_core.wiring.masking import straight_through, zero_outside
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rule import AttachedRule, Run, WiringRule
from dnw_core.wiring.rules.stored_mask import PruningRule, keep_largest_of_pool
from dnw_core.wiring.slots import Slots


def sparse_epochs(config: AcDcConfig, epochs: int) -> list[bool]:
    """Return for each epoch whether it belongs to a sparse phase.

    Each length is rounded to whole epochs and at least one; one epoch alone is dense.
    """
    warmup = max(1, round(config.warmup_share * epochs))
    phase = max(1, round(config.phase_share * epochs))
    last = max(warmup, epochs - max(1, round(config.last_sparse_share * epochs)))
    sparse = [epoch >= last for epoch in range(epochs)]
    for start in range(warmup, last, 2 * phase):
        if start + phase < last:
            sparse[start : start + phase] = [True] * phase
    return sparse


class AcDc(PruningRule):
    """Keeps every slot in a dense phase, and in a sparse one the k largest |w| over all weights together.

    Peste, Iofinova, Vladu, Alistarh: "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks",
    NeurIPS 2021, arXiv:2106.12379, section 3 (the algorithm).

    Gradient: of the effective weight, at every slot in a dense phase and at the edges in a sparse one.

    A weight without an edge is zero, as is its momentum, and gets no gradient: neither decay nor SGD's momentum moves
    it. Where something else does (another optimiser, an average), the mask hides it. A run that ends with a dense epoch
    is pruned after it; one that outlasts its plan goes on in the last phase.
    """

    needs_run = True
    changes_optimiser = True
    sparse: Tensor = mask_buffer("sparse")

    def __init__(self, config: AcDcConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        self.config = config
        self.phases: list[bool] = []
        self.epoch: int | None = None  # the one that begins; by the ends that were told, else by the count of steps
        self._settled: int | None = None  # the epoch whose phase has been looked up
        self.register_mask("sparse", torch.tensor(False), count="")

    @classmethod
    @override
    def pool_promised_edges(cls, rules: Sequence[WiringRule]) -> int | None:
        """The budgets of all weights together in a sparse phase; in a dense one each weight's promise says it."""
        sparse = any(isinstance(rule, AcDc) and bool(rule.sparse) for rule in rules)
        return sum(rule.kept_edges for rule in rules) if sparse else None

    @override
    def begin(self, run: Run) -> None:
        super().begin(run)
        self.phases = sparse_epochs(self.config, run.epochs)

    @override
    def resumed(self) -> None:
        self.epoch = self._settled = None  # the count of steps says which epoch it is

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the present edges at zero; straight-through gradient, masked later.

        So the gradient of a dense phase's first step reaches every slot.
        """
        return straight_through(weight, self.present)

    @override
    def before_step(self, here: AttachedRule, step: int) -> None:
        """Begin a dense phase at its first step; in a sparse one, let no gradient through where there is no edge.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        epoch = step // self.known_run().steps_per_epoch if self.epoch is None else self.epoch
        dense = epoch < len(self.phases) and not self.phases[epoch]
        if dense and epoch != self._settled:
            self._begin_dense(here)
        elif not dense and here.gradient is not None:
            zero_outside(here.gradient, self.present)
        self._settled = epoch

    def _begin_dense(self, here: AttachedRule) -> None:
        """Make every slot an edge, from zero and without momentum, if that has not been done."""
        if not self.sparse:
            return
        zero_outside(here.weight, self.present)
        self.keep_all()
        self.write_mask("sparse", torch.tensor(False))
        if here.momentum is not None:
            here.momentum.zero_()

    @classmethod
    @override
    def pool_after_epoch(cls, attached: Sequence[AttachedRule], epoch: int) -> None:
        """After the last epoch of a dense phase, prune.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        rules = [cast(AcDc, here.rule) for here in attached]
        epochs, phases = rules[0].known_run().epochs, rules[0].phases
        for rule in rules:
            rule.epoch = epoch + 1
        if epoch >= epochs or phases[epoch] or not (epoch + 1 == epochs or phases[epoch + 1]):
            return
        keep_largest_of_pool(rules, [here.weight for here in attached])
        for here, rule in zip(attached, rules, strict=True):
            rule.write_mask("sparse", torch.tensor(True))
            zero_outside(here.weight, rule.present)
            if here.momentum is not None:
                zero_outside(here.momentum, rule.present)
