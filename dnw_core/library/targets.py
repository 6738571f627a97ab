"""Which weights of a network take a rule: those of its convolutions and linear layers, but for what is skipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dnw_core.errors import UserError
from dnw_core.library.skipping import Skip, skipped, weight_name
from dnw_core.library.weights import checked_weight, memory_of, refuse_wrapped

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
        module: the layer.
        weight: its parameter ``weight``.
    """

    name: str
    module: nn.Module
    weight: nn.Parameter

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(self.weight.shape)

    @property
    def device(self) -> torch.device:
        """Where the weight lies."""
        return self.weight.device


def find_targets(network: nn.Module, skip: Skip = ()) -> list[Target]:
    """Return the weights of all convolutions and linear layers but the skipped ones, in the order of the modules.

    Layers without entries (``nn.Linear(0, 5)``) are passed over.

    Args:
        network: any module; itself a layer, if need be.
        skip: patterns and modules, one or several. A pattern (``fnmatch``, upper and lower case differ) skips a weight
            if it matches the weight's dotted name, its layer's, or that of a module around the layer. A module skips
            its own weight and all inside it. A layer that is used under several names is skipped by any of them.

    Raises:
        UserError: if there is no such weight or none is left, something in ``skip`` skips none, the network is spread
            over workers already, or a weight is shared by two layers, has a rule or another parametrisation already,
            or is not made of plain numbers (``weights.checked_weight``).
    """
    if not isinstance(network, nn.Module):
        raise UserError(f"a {type(network).__name__} cannot be made sparse; give the network, an nn.Module")
    refuse_wrapped(network)
    layers = _layers(network)
    if not layers:
        raise UserError(f"{type(network).__name__} has no prunable weight: no convolution or linear layer is in it")
    passed_over = skipped(network, layers, skip)
    chosen = [(weight_name(names[0]), layer) for names, layer in layers if layer not in passed_over]
    if not chosen:
        raise UserError(f"skip leaves no prunable weight of {type(network).__name__}: all {len(layers)} are skipped")
    targets = [Target(name, layer, checked_weight(name, layer)) for name, layer in chosen]
    targets = [target for target in targets if target.weight.numel()]
    if not targets:
        raise UserError(f"{type(network).__name__} has no prunable weight: those of its layers have no entries")
    _refuse_shared(network, targets)
    return targets


def _layers(network: nn.Module) -> list[tuple[list[str], nn.Module]]:
    """Every prunable layer once, with the names that it has."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, PRUNABLE):
            names.setdefault(module, []).append(name)
    return [(known, layer) for layer, known in names.items()]


def _refuse_shared(network: nn.Module, targets: list[Target]) -> None:
    """A weight is shared also where two parameters have the same memory."""
    sharers: dict[object, list[str]] = {}
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(module_name, recurse=False, remove_duplicate=False):
            sharers.setdefault(memory_of(parameter), []).append(name)
    for target in targets:
        sharing = sharers[memory_of(target.weight)]
        if len(sharing) > 1:
            raise UserError(
                f"{' and '.join(sharing)} are one shared weight; untie them, or skip every layer that holds it"
            )
