"""The contract of a wiring rule: how a dense weight becomes the effective one.

A rule is attached to any weight of any ``nn.Module`` through ``torch.nn.utils.parametrize``; the module then
reads the effective weight under the weight's own name, and the dense one stays the trained parameter. A rule

* gives the effective weight (``forward``), with whatever gradient it promises,
* tells its current edges (``edges``) and how many it promises (``promised_edges``),
* is told which weight it is attached to (``adopt``), how long the run is (``begin``) and, if it needs one, what its
  parent trial found (``inherit``),
* may act between the gradients and the optimiser's step, after the step, and at an epoch's end, alone
  (``before_step``, ``after_step``, ``after_epoch``) or for all of its class and call at once (``..._together``),
* keeps everything it must remember in buffers, so that ``state_dict`` carries it into the checkpoint, masks in those of
  ``masks.KeepsMasks``; what it trains itself is a parameter.

What a layer multiplies with has no more edges than promised at any moment, whoever moved the weight: ``forward`` masks
it, and trusts no weight to be zero.

``hooks.Wiring`` calls the rules of a network at these moments. Within ``effective_weights()`` the effective weight is
computed once, however often the graph is applied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dnw_core.config import EdgeBudget
from dnw_core.errors import UserError
from dnw_core.seeds import derive_seed
from dnw_core.wiring.masks import KeepsMasks, mask_buffer
from dnw_core.wiring.momenta import keep_resting, l2_decay, momentum_of
from dnw_core.wiring.once import effective_weights, once
from dnw_core.wiring.run import Run
from dnw_core.wiring.sharded import refuse_sharded
from dnw_core.wiring.slots import Slots

__all__ = [
    "AttachedRule",
    "Origin",
    "Run",
    "WiringRule",
    "attach",
    "attached_rules",
    "effective_weights",
    "mask_buffer",
]


@dataclass(frozen=True)
class Origin:
    """How a weight was before a rule was attached to it, for the way back.

    Attributes:
        position: among its module's parameters, which is its place in ``state_dict``.
        trainable: whether it asked for a gradient.
    """

    position: int
    trainable: bool


class WiringRule(KeepsMasks, ABC):
    """Turns a dense weight into the effective one. Subclasses are registered in ``wiring.config``.

    Args:
        slots: what the network says of the weight.
        budget: how many edges are kept; None for every usable slot.

    Raises:
        ValueError: if the budget does not fit the weight.
    """

    origin: Origin  # known once it is attached
    pool: int = 0  # rules of one class that share their edges: those that one call of sparsify attached
    reads_momentum: ClassVar[bool] = False  # it cannot act at all where the optimiser keeps none
    changes_optimiser: ClassVar[bool] = False  # it reads or resets what the optimiser keeps of the weight
    decayed_parameters: ClassVar[tuple[str, ...]] = ()  # its own that weight decay must draw, or nothing happens

    def __init__(self, slots: Slots, budget: EdgeBudget | None) -> None:
        super().__init__()
        self.slots = slots
        if slots.kept is not None:
            self.kept_edges = slots.kept
        else:
            self.kept_edges = slots.usable_count if budget is None else budget.edges(slots.numel, slots.law)

    def refuse_too_few_usable(self) -> None:
        """For rules whose edges are all usable slots.

        Raises:
            ValueError: if fewer slots are usable than edges are to be kept.
        """
        usable = self.slots.usable_count
        if usable < self.kept_edges:
            raise ValueError(f"{self.kept_edges} edges are to be kept, but only {usable} slots are usable")

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the effective weight; within ``effective_weights()`` it is computed once.

        Raises:
            UserError: if only a shard of the weight is here (FSDP2, outside of the forward pass).
        """
        if not torch.compiler.is_compiling():
            refuse_sharded(weight, f"a weight with the rule {type(self).__name__}")
        return once(self, super().__call__, weight)

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
    def promised_together(cls, rules: Sequence[WiringRule]) -> int | None:
        """How many edges the rules of this class, on all weights of a network, have at this moment together.

        For rules that move edges from one weight to another. Default: None, no promise beyond each rule's own.
        """
        return None

    def adopt(self, weight: nn.Parameter) -> None:
        """Learn which weight the rule is attached to, as it is attached: its values, once, and its gradient.

        A rule that never trains the weight sets ``weight.requires_grad_(False)`` here. Default: nothing.
        """

    def begin(self, run: Run) -> None:
        """Learn how long the run is, before the first step or on resume. Default: nothing."""

    def inherit(self, parent_weight: Tensor) -> None:
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
    def before_step_together(cls, places: Sequence[AttachedRule], step: int) -> None:
        """As ``before_step``, once for all weights that have a rule of this class and pool. Default: nothing."""

    @classmethod
    def after_step_together(cls, places: Sequence[AttachedRule], step: int) -> None:
        """As ``after_step``, once for all weights that have a rule of this class and pool. Default: nothing."""

    @classmethod
    def after_epoch_together(cls, places: Sequence[AttachedRule], epoch: int) -> None:
        """As ``after_epoch``, once for all weights that have a rule of this class and pool. Default: nothing."""


@dataclass(frozen=True)
class AttachedRule:
    """A rule where it is attached."""

    name: str  # dotted name of the weight in the model, e.g. "edges.weight"
    rule: WiringRule
    module: nn.Module
    weight_name: str
    optimiser: torch.optim.Optimizer | None = None

    @property
    def weight(self) -> nn.Parameter:
        """The dense, trained weight.

        Raises:
            UserError: if the rule has been taken off since.
        """
        if not parametrize.is_parametrized(self.module, self.weight_name):
            raise UserError(f"the rule of {self.name} has been taken off; make a new Wiring, or call its hooks no more")
        parametrizations = self.module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        weight = parametrizations[self.weight_name].original
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
            found = int(mask.sum())
            assert found == promised, f"{self.name}: {found} edges, {promised} promised by {type(self.rule).__name__}"
        return mask


def generator_for(seed: int, name: str) -> torch.Generator:
    """Return what the rule of the weight ``name`` draws from; it depends on these two alone."""
    return torch.Generator().manual_seed(derive_seed(seed, f"wiring {name}"))


def attach(module: nn.Module, weight_name: str, rule: WiringRule) -> None:
    """Attach ``rule`` to ``module``'s parameter ``weight_name``.

    Raises:
        ValueError: if there is no such parameter, it has a rule already, or its shape is not the rule's.
    """
    if parametrize.is_parametrized(module, weight_name):
        raise ValueError(f"{type(module).__name__}.{weight_name} has a wiring rule already; a weight takes one")
    weight = dict(module.named_parameters(recurse=False)).get(weight_name)
    if weight is None:
        known = ", ".join(name for name, _ in module.named_parameters(recurse=False)) or "none"
        raise ValueError(f"{type(module).__name__} has no parameter '{weight_name}' (its parameters: {known})")
    if tuple(weight.shape) != tuple(rule.slots.shape):
        raise ValueError(f"the rule is for shape {tuple(rule.slots.shape)}, {weight_name} has {tuple(weight.shape)}")
    rule.origin = Origin(list(module._parameters).index(weight_name), weight.requires_grad)
    # unsafe=True only skips a trial call of forward; the checks above are stricter for our purpose
    parametrize.register_parametrization(module, weight_name, rule, unsafe=True)
    rule.adopt(weight)


def attached_rules(model: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> Iterator[AttachedRule]:
    """Yield every attached rule, in the order of the model's modules; with the optimiser that trains it, if given."""
    for module_name, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        for weight_name, chain in parametrizations.items():
            assert isinstance(chain, nn.Module)
            for rule in chain.children():
                if isinstance(rule, WiringRule):
                    full = f"{module_name}.{weight_name}" if module_name else weight_name
                    yield AttachedRule(full, rule, module, weight_name, optimiser)
