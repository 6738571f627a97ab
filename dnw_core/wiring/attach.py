"""Attaching rules to the weights of a network, and finding those that are attached."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

from dnw_core.seeds import derive_seed
from dnw_core.wiring.rule import AttachedRule, Origin, WiringRule


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
    parameters = dict(module.named_parameters(recurse=False))
    weight = parameters.get(weight_name)
    if weight is None:
        known = ", ".join(parameters) or "none"
        raise ValueError(f"{type(module).__name__} has no parameter '{weight_name}' (its parameters: {known})")
    if tuple(weight.shape) != tuple(rule.slots.shape):
        raise ValueError(f"the rule is for shape {tuple(rule.slots.shape)}, {weight_name} has {tuple(weight.shape)}")
    rule.origin = Origin(list(module._parameters).index(weight_name), weight.requires_grad)
    # unsafe=True only skips a trial call of forward; the checks above are stricter for our purpose
    parametrize.register_parametrization(module, weight_name, rule, unsafe=True)
    rule.on_attach(weight)


def attached_rules(model: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> Iterator[AttachedRule]:
    """Yield every attached rule, in the order of the model's modules; with the optimiser that trains it, if given."""
    for module_name, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        for weight_name, chain in parametrizations.items():
            for rule in chain.children():
                if isinstance(rule, WiringRule):
                    full = f"{module_name}.{weight_name}" if module_name else weight_name
                    yield AttachedRule(full, rule, module, weight_name, optimiser)
