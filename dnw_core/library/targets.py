"""Which weights of a network take a rule: those of its convolutions and linear layers, but for what is skipped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from dnw_core.errors import UserError
from dnw_core.wiring.rule import WiringRule

PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True)
class Target:
    """A weight that takes a rule.

    Attributes:
        name: dotted name of the weight in the network, e.g. ``layer1.0.conv1.weight``.
        module: the layer; its parameter is called ``weight``.
    """

    name: str
    module: nn.Module

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return tuple(weight.shape)

    @property
    def device(self) -> torch.device:
        """Where the weight lies."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight.device


def find_targets(network: nn.Module, skip: Sequence[str] | str = ()) -> list[Target]:
    """Return the weights of all convolutions and linear layers but the skipped ones, in the order of the modules.

    Args:
        network: any module; itself a layer, if need be.
        skip: patterns (``fnmatch``, upper and lower case differ). A pattern skips a weight if it matches the weight's
            dotted name, its layer's, or that of a module around the layer. A layer that is used under several names is
            skipped by any of them.

    Raises:
        UserError: if there is no such weight or none is left, a pattern matches none, or a weight is shared by two
            layers, has a rule or another parametrisation already, is no parameter, or has no values yet.
    """
    layers = _layers(network)
    if not layers:
        raise UserError(f"{type(network).__name__} has no prunable weight: no convolution or linear layer is in it")
    patterns = (skip,) if isinstance(skip, str) else tuple(skip)
    for pattern in patterns:
        if not any(_matches(pattern, names) for names, _ in layers):
            raise UserError(
                f"skip has {pattern!r}, which matches no prunable weight{nearest(pattern, _around(layers))}"
            )
    chosen = [
        Target(_weight_name(names[0]), layer)
        for names, layer in layers
        if not any(_matches(pattern, names) for pattern in patterns)
    ]
    if not chosen:
        raise UserError(f"skip leaves no prunable weight of {type(network).__name__}: all {len(layers)} are skipped")
    sharers = _sharers(network)
    for target in chosen:
        _check(target, sharers)
    return chosen


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known name most like ``name``; empty if none is alike."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; the nearest known name is {found[0]!r}" if found else ""


def _layers(network: nn.Module) -> list[tuple[list[str], nn.Module]]:
    """Every prunable layer once, with the names that it has."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, PRUNABLE):
            names.setdefault(module, []).append(name)
    return [(known, layer) for layer, known in names.items()]


def _weight_name(layer_name: str) -> str:
    return f"{layer_name}.weight" if layer_name else "weight"


def _matches(pattern: str, layer_names: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for layer in layer_names for name in _with_surroundings(layer))


def _with_surroundings(layer_name: str) -> list[str]:
    """The weight's name, the layer's, and those of the modules around it: a.b.weight, a, a.b."""
    parts = layer_name.split(".") if layer_name else []
    return [_weight_name(layer_name), *(".".join(parts[:end]) for end in range(1, len(parts) + 1))]


def _around(layers: list[tuple[list[str], nn.Module]]) -> list[str]:
    known = (name for names, _ in layers for layer in names for name in _with_surroundings(layer))
    return list(dict.fromkeys(known))


def _sharers(network: nn.Module) -> dict[nn.Parameter, list[str]]:
    """The names under which the modules of the network hold each parameter; each module counted once."""
    sharers: dict[nn.Parameter, list[str]] = {}
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(module_name, recurse=False, remove_duplicate=False):
            sharers.setdefault(parameter, []).append(name)
    return sharers


def _check(target: Target, sharers: dict[nn.Parameter, list[str]]) -> None:
    if parametrize.is_parametrized(target.module, "weight"):
        chains = target.module.parametrizations
        assert isinstance(chains, nn.ModuleDict)
        kinds = [type(child) for child in chains["weight"].children()]
        names = ", ".join(kind.__name__ for kind in kinds)
        if any(issubclass(kind, WiringRule) for kind in kinds):
            raise UserError(f"{target.name} has a wiring rule already ({names}); take it off (remove_rules) or skip it")
        raise UserError(f"{target.name} is parametrised already ({names}); undo that or skip it")
    weight = target.module._parameters.get("weight")
    if weight is None:
        raise UserError(
            f"{target.name} is no parameter (computed from others, as by weight_norm?); undo that or skip it"
        )
    if is_lazy(weight):
        raise UserError(f"{target.name} has no shape before the network has seen a batch; show it one first")
    sharing = sharers[weight]
    if len(sharing) > 1:
        raise UserError(f"{' and '.join(sharing)} are one shared weight; untie them, or skip every layer that holds it")
