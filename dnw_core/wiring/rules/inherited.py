"""Edges taken over from a finished trial: one-shot pruning of a trained network (facts 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from dnw_core.config import RankedConfig
from dnw_core.wiring.masking import masked
from dnw_core.wiring.masks import mask_buffer
from dnw_core.wiring.rules.top_edges import RankedRule
from dnw_core.wiring.slots import Slots


class InheritedEdges(RankedRule):
    """Keeps the k largest magnitudes of the parent trial's final weight for ever.

    Gradient: of the effective weight, at the edges alone. Which weights training starts from
    (``config.starts_from``) is decided by the training code.

    Until ``load_parent_weight`` is called or a checkpoint is loaded there are no edges, and asking for them is an
    error.
    """

    mask: Tensor = mask_buffer("mask")

    def __init__(self, config: RankedConfig, slots: Slots, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)
        # all False until the edges are known: a rule keeps one edge at least
        self.register_mask("mask", torch.zeros(slots.shape, dtype=torch.bool), count="inherited_edges")
        self._known = False

    @property
    def inherited_edges(self) -> int:
        """How many edges there are: none until they are known."""
        stored = self._buffers["mask"]
        assert stored is not None
        return self.kept_edges if bool(stored.any()) else 0

    @override
    def load_parent_weight(self, parent_weight: Tensor) -> None:
        """Take the k largest magnitudes of the parent's final dense weight as the edges.

        Raises:
            ValueError: if that weight has another shape.
        """
        if parent_weight.shape != self.mask.shape:
            raise ValueError(
                f"the parent's weight has shape {tuple(parent_weight.shape)}; this one has {tuple(self.mask.shape)}"
            )
        self.write_mask("mask", self.largest(parent_weight.to(self.mask.device)))

    @override
    def edges(self, weight: Tensor) -> Tensor:
        """The inherited edges, whatever the weight.

        Raises:
            RuntimeError: if there are none yet.
        """
        # looked at once only: on an accelerator reading a value waits for the queue
        if not self._known:
            self._known = bool(self.mask.any())
        if not self._known:
            raise RuntimeError(
                f"{type(self).__name__} has no edges yet: call load_parent_weight() with the parent trial's final "
                "weight, or load a checkpoint"
            )
        return self.mask

    @override
    def forward(self, weight: Tensor) -> Tensor:
        """The weight with all but the inherited edges at zero, in value and in gradient.

        Raises:
            RuntimeError: as ``edges``.
        """
        return masked(weight, self.edges(weight))


class LotteryTicket(InheritedEdges):
    """The parent's k largest final magnitudes; training starts from the weights that the parent started from.

    Frankle, Carbin: "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", ICLR 2019,
    arXiv:1803.03635, one-shot pruning.

    The first weights are drawn from the seed, which is the parent's; ``LotteryTicketConfig.starts_from`` says so.
    """


class FineTune(InheritedEdges):
    """The parent's k largest final magnitudes; training goes on from its final state.

    Han, Pool, Tran, Dally: "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015,
    arXiv:1506.02626, section 3, in one round.

    ``FineTuneConfig.starts_from`` says so, and the training code loads that state.
    """
