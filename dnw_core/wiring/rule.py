"""The contract of a wiring rule: how a dense weight becomes the effective one.

A rule is attached to any weight of any ``nn.Module`` through ``torch.nn.utils.parametrize`` (``attach``); the module
then reads the effective weight under the weight's own name, and the dense one stays the trained parameter. A rule

* gives the effective weight (``forward``), with whatever gradient it promises,
* tells its current edges (``edges``) and how many it promises (``promised_edges``),
* learns which weight it is attached to (``on_attach``), how long the run is (``begin``) and, if it needs one, the
  final weight of its parent trial (``load_parent_weight``),
* may act between the gradients and the optimiser's step, after the step, and at an epoch's end, for one weight
  (``before_step``, ``after_step``, ``after_epoch``) or for its whole pool (``pool_before_step``, ...): the rules of one
  class that one call of ``sparsify`` attached,
* keeps everything it must remember in buffers, so that ``state_dict`` carries it into the checkpoint, masks in those of
  ``masks.KeepsMasks``; what it trains itself is a parameter.

A layer never multiplies with more edges than promised, whatever moved the weight: ``forward`` masks the weight and
does not rely on zeros in it.

``hooks.Wiring`` calls the rules of a network at these moments. Within ``effective_weights()`` the effective weight is
computed once, however often the graph is applied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from dnw_core.config import EdgeBudget
from dnw_core.errors import UserError
from dnw_core.wiring.masks import KeepsMasks, mask_buffer
from dnw_core.wiring.momenta import keep_resting, l2_decay, momentum_of
from dnw_core.wiring.once import effective_weights, once
from dnw_core.wiring.run import Run
from dnw_core.wiring.sharded import refuse_sharded
from dnw_core.wiring.slots import Slots

__all__ = ["AttachedRule", "Origin", "Run", "WiringRule", "effective_weights", "mask_buffer"]


@dataclass(frozen=True)
class Origin:
    """How a weight was before a rule was attached to it, for the way back.

    Attributes:
        position: index among its module's parameters, which is its position in ``state_dict``.
        trainable: whether it asked for a gradient.
    """

    position: int
    trainable: bool


class WiringRule(KeepsMasks, ABC):
    """Turns a dense weight into the effective one. The settings class of a registered rule names it.

    Args:
        slots: what the network says of the weight.
        budget: how many edges are kept; None for every usable slot.

    Raises:
        ValueError: if the budget does not fit the weight.
    """

    origin: Origin  # known once it is attached
    pool: int = 0  # rules of one class that share their edges: those that one call of sparsify attached
    needs_run: ClassVar[bool] = False  # its schedule depends on the length of the run
    reads_momentum: ClassVar[bool] = False  # it cannot act at all where the optimiser keeps none
    changes_optimiser: ClassVar[bool] = False  # it reads or resets what the optimiser keeps of the weight
    decayed_parameters: ClassVar[tuple[str, ...]] = ()  # its own that weight decay must draw, or nothing happens
    usable: Tensor | None = mask_buffer("usable")  # slots that the forward pass reads; None for all

    def __init__(self, slots: Slots, budget: EdgeBudget | None) -> None:
        super().__init__()
        self.slots = slots
        self.run: Run | None = None
        if slots.kept is not None:
            self.kept_edges = slots.kept
        else:
            self.kept_edges = slots.usable_count if budget is None else budget.edges(slots.numel, slots.law)
        # follows from the network alone, so it need not be in the checkpoint
        self.register_mask("usable", slots.usable, count="usable_count", persistent=False)

    def refuse_too_few_usable(self) -> None:
        """For rules whose edges are all usable slots.

        Raises:
            ValueError: if fewer slots are usable than edges are to be kept.
        """
        if self.usable_count < self.kept_edges:
            raise ValueError(f"{self.kept_edges} edges are to be kept, but only {self.usable_count} slots are usable")

    @override
    def __call__(self, weight: Tensor) -> Tensor:
        """Return the effective weight; within ``effective_weights()`` it is computed once.

        Raises:
            UserError: if only a shard of the weight is here (FSDP2, outside of the forward pass).
        """
        if not torch.compiler.is_compiling():
            refuse_sharded(weight, f"a weight with the rule {type(self).__name__}")
        return once(self, super().__call__, weight)

    def known_run(self) -> Run:
        """Return how long the run is, of which the schedules of rules are shares.

        Raises:
            RuntimeError: if ``begin`` was never called.
        """
        if self.run is None:
            raise RuntimeError(f"{type(self).__name__} does not know how long the run is: call begin(run) first")
        return self.run

    @property
    def usable_count(self) -> int:
        """How many slots the forward pass reads."""
        return self.slots.usable_count

    @property
    def promised_edges(self) -> int | None:
        """How many edges there are at this moment, exactly; None if the rule promises no count."""
        return self.kept_edges

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """Return the effective weight, of the same shape."""

    @abstractmethod
    def edges(self, weight: Tensor) -> Tensor:
        """Return the boolean mask of the edges that ``forward`` keeps for this dense weight (in evaluation)."""

    @classmethod
    def pool_promised_edges(cls, rules: Sequence[WiringRule]) -> int | None:
        """How many edges the rules of a pool have at this moment in all.

        For rules that move edges from one weight to another. Default: None, no promise beyond each rule's own.
        """
        return None

    def on_attach(self, weight: nn.Parameter) -> None:
        """Learn which weight the rule is attached to, as it is attached: its values, once, and its gradient.

        A rule that never trains the weight sets ``weight.requires_grad_(False)`` here. Default: nothing.
        """

    def begin(self, run: Run) -> None:
        """Learn how long the run is, before the first step or on resume."""
        self.run = run
        self.resumed()

    def load_parent_weight(self, parent_weight: Tensor) -> None:
        """Take what the rule needs from the parent trial's final dense weight (same shape), once, at the start.

        Called for rules whose settings say ``needs_parent``. Default: nothing.
        """

    def decides_at(self, step: int) -> bool:
        """Whether ``before_step`` decides at ``step``, by the gradients, which edges there are.

        It is then not called where a gradient is not finite: under a ``GradScaler`` that step never happens.
        Default: no.
        """
        return False

    def before_step(self, here: AttachedRule, step: int) -> None:
        """Act when the gradients of step ``step`` (counted from 0 over the whole run) are there.

        ``here.gradient`` is the sum over all workers, and may be changed in place; ``here.rest()`` makes the optimiser
        pass the weight over in this step. Default: nothing.
        """

    def after_step(self, here: AttachedRule, step: int) -> None:
        """Act after the optimiser step ``step``. Default: nothing."""

    def after_epoch(self, here: AttachedRule, epoch: int) -> None:
        """Act at the end of epoch ``epoch`` (counted from 0). Default: nothing."""

    @classmethod
    def pool_before_step(cls, attached: Sequence[AttachedRule], step: int) -> None:
        """As ``before_step``, once for all weights of a pool. Default: nothing."""

    @classmethod
    def pool_after_step(cls, attached: Sequence[AttachedRule], step: int) -> None:
        """As ``after_step``, once for all weights of a pool. Default: nothing."""

    @classmethod
    def pool_after_epoch(cls, attached: Sequence[AttachedRule], epoch: int) -> None:
        """As ``after_epoch``, once for all weights of a pool. Default: nothing."""

    @classmethod
    def acts_at(cls, moment: str) -> bool:
        """Whether the class acts at a moment: "before_step", "after_step" or "after_epoch", by itself or as a pool."""
        return any(getattr(cls, name).__qualname__ != f"WiringRule.{name}" for name in (moment, f"pool_{moment}"))


@dataclass(frozen=True)
class AttachedRule:
    """A rule and the weight that it is attached to."""

    name: str  # dotted name of the weight in the model, e.g. "edges.weight"
    rule: WiringRule
    module: nn.Module
    weight_name: str
    optimiser: torch.optim.Optimizer | None = None

    @property
    def chain(self) -> parametrize.ParametrizationList:
        """All parametrisations of the weight, in the order in which they are applied.

        Raises:
            UserError: if the rule has been taken off since.
        """
        if not parametrize.is_parametrized(self.module, self.weight_name):
            raise UserError(
                f"the rule of {self.name} has been taken off; make a new Wiring, or stop calling the hooks of this one"
            )
        chains = self.module.parametrizations
        assert isinstance(chains, nn.ModuleDict)
        chain = chains[self.weight_name]
        assert isinstance(chain, parametrize.ParametrizationList)
        return chain

    @property
    def weight(self) -> nn.Parameter:
        """The dense, trained weight.

        Raises:
            UserError: as ``chain``.
        """
        weight = self.chain.original
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def gradient(self) -> Tensor | None:
        """The dense weight's gradient, as the rule's backward pass let it through; None if nothing was learned."""
        return self.weight.grad

    @property
    def momentum(self) -> Tensor | None:
        """The optimiser's momentum of the dense weight, which may be changed in place; None if it has none (yet)."""
        return None if self.optimiser is None else momentum_of(self.optimiser, self.weight)

    @property
    def weight_decay(self) -> float:
        """The decay that the optimiser adds to this weight's gradient; 0 for none, or one of another kind."""
        return 0.0 if self.optimiser is None else l2_decay(self.optimiser, self.weight)

    def rest(self) -> None:
        """Make the optimiser pass the weight over in this step, decay and momentum included."""
        self.weight.grad = None
        if self.optimiser is not None:
            keep_resting(self.optimiser, self.weight)

    def edges(self) -> Tensor:
        """Boolean mask of the current edges, which later changes leave alone.

        Raises:
            AssertionError: if the rule breaks its promise of an exact count.
            UserError: if only a shard of the weight is here (FSDP2).
        """
        refuse_sharded(self.weight, self.name)
        with torch.no_grad():
            mask = self.rule.edges(self.weight).clone()
        promised = self.rule.promised_edges
        if promised is not None:
            found = int(mask.count_nonzero())
            assert found == promised, f"{self.name}: {found} edges, {promised} promised by {type(self.rule).__name__}"
        return mask
