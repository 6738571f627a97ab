"""AC/DC (Peste et al. 2021, facts 6): dense and sparse phases in turn.

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

import torch
from torch import Tensor

from dnw_core.wiring.later_config import AcDcConfig
from dnw_core.wiring.masking import zero_outside
from dnw_core.wiring.present import PresentEdges, keep_largest_together
from dnw_core.wiring.rule import Attached, Run, WiringRule
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


class AcDc(PresentEdges):
    """Keeps every slot in a dense phase, and in a sparse one the k largest |w| over all weights together.

    A weight without an edge is zero, as is its momentum, and gets no gradient: neither decay nor momentum moves it, and
    the effective weight is the weight. A run that ends with a dense epoch is pruned after it.

    Raises:
        ValueError: if fewer slots are usable than edges are to be kept.
    """

    sparse: Tensor

    def __init__(self, config: AcDcConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots)
        self.config = config
        self.run: Run | None = None
        self.phases: list[bool] = []
        self.register_buffer("sparse", torch.tensor(False))

    @classmethod
    def promised_together(cls, rules: Sequence[WiringRule]) -> int | None:
        """The budgets of all weights together in a sparse phase; in a dense one each weight's promise says it."""
        sparse = any(isinstance(rule, AcDc) and bool(rule.sparse) for rule in rules)
        return sum(rule.kept_edges for rule in rules) if sparse else None

    def begin(self, run: Run) -> None:
        """Learn the length of the run, which the phases depend on."""
        self.run, self.phases = run, sparse_epochs(self.config, run.epochs)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight: it is zero where there is no edge."""
        return weight

    def before_step(self, here: Attached, step: int) -> None:
        """Let no gradient through to what is not an edge; at the first step of a dense phase, begin it.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        if self.run is None:
            raise RuntimeError("AcDc does not know how long the run is: call begin(run) first")
        epoch, of_epoch = divmod(step, self.run.steps_per_epoch)
        if self.phases[epoch]:
            if here.gradient is not None:
                zero_outside(here.gradient, self.present)
        elif of_epoch == 0 and epoch and self.phases[epoch - 1]:
            self.keep_all()
            self.sparse.fill_(False)
            if here.momentum is not None:
                here.momentum.zero_()

    @classmethod
    def after_epoch_together(cls, places: Sequence[Attached], epoch: int) -> None:
        """After the last epoch of a dense phase, prune.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        rules = [place.rule for place in places if isinstance(place.rule, AcDc)]
        phases = rules[0].phases
        if not phases:
            raise RuntimeError("AcDc does not know how long the run is: call begin(run) first")
        if phases[epoch] or not (epoch + 1 == len(phases) or phases[epoch + 1]):
            return
        keep_largest_together(rules, [place.weight for place in places])
        for place, rule in zip(places, rules, strict=True):
            rule.sparse.fill_(True)
            zero_outside(place.weight, rule.present)
            if place.momentum is not None:
                zero_outside(place.momentum, rule.present)
