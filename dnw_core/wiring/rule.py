"""The contract of a wiring rule: how a dense weight becomes the effective one.

A rule is attached to any weight of any ``nn.Module`` through ``torch.nn.utils.parametrize``; the module then
reads the effective weight under the weight's own name, and the dense one stays the trained parameter. A rule

* gives the effective weight (``forward``), with whatever gradient it promises,
* tells its current edges (``edges``) and how many it promises (``promised_edges``),
* is told how long the run is (``begin``) and, if it needs one, what its parent trial found (``inherit``),
* may act after an optimiser step or at an epoch's end (``after_step``, ``after_epoch``),
* keeps everything it must remember in buffers, so that ``state_dict`` carries it into the checkpoint.

Within ``effective_weights(model)`` the effective weight is computed once, however often the graph is applied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dnw_core.wiring.budget import EdgeBudget
from dnw_core.wiring.slots import Slots


class WiringRule(nn.Module, ABC):
    """Turns a dense weight into the effective one. Subclasses are registered in ``wiring.config``.

    Args:
        slots: what the network says of the weight.
        budget: how many edges are kept; None for every usable slot.

    Raises:
        ValueError: if the budget does not fit the weight.
    """

    def __init__(self, slots: Slots, budget: EdgeBudget | None) -> None:
        super().__init__()
        self.slots = slots
        self.kept_edges = slots.usable_count if budget is None else budget.edges(slots.numel, slots.law)

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

    def begin(self, epochs: int) -> None:
        """Learn how many epochs the run has, before the first or on resume. Default: nothing."""

    def inherit(self, parent_weight: Tensor) -> None:
        """Take what the rule needs from the parent trial's final dense weight (same shape), once, at the start.

        Called for rules whose settings say ``needs_parent``. Default: nothing.
        """

    def after_step(self, weight: Tensor, step: int) -> None:
        """Act after the optimiser step ``step`` (counted from 0 over the whole run). Default: nothing."""

    def after_epoch(self, weight: Tensor, epoch: int) -> None:
        """Act at the end of epoch ``epoch``. Default: nothing."""


@dataclass(frozen=True)
class Attached:
    """A rule where it is attached."""

    name: str  # dotted name of the weight in the model, e.g. "edges.weight"
    rule: WiringRule
    module: nn.Module
    weight_name: str

    @property
    def weight(self) -> Tensor:
        """The dense, trained weight."""
        parametrizations = self.module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        weight = parametrizations[self.weight_name].original
        assert isinstance(weight, Tensor)
        return weight

    def edges(self) -> Tensor:
        """Boolean mask of the current edges.

        Raises:
            AssertionError: if the rule breaks its promise of an exact count.
        """
        with torch.no_grad():
            mask = self.rule.edges(self.weight)
        promised = self.rule.promised_edges
        if promised is not None:
            found = int(mask.sum())
            assert found == promised, f"{self.name}: {found} edges, {promised} promised by {type(self.rule).__name__}"
        return mask


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
    # unsafe=True only skips a trial call of forward; the checks above are stricter for our purpose
    parametrize.register_parametrization(module, weight_name, rule, unsafe=True)


def attached_rules(model: nn.Module) -> Iterator[Attached]:
    """Yield every attached rule, in the order of the model's modules."""
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
                    yield Attached(full, rule, module, weight_name)


def effective_weights() -> AbstractContextManager[None]:
    """Within this context each effective weight is computed at its first use and then kept.

    Wrap one training step's forward pass, or one evaluation, in it; never an optimiser step.
    """
    return parametrize.cached()
