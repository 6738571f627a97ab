"""Which weights of a network take a rule: those of its convolutions and linear layers, but for what is skipped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from dnw_core.errors import UserError
from dnw_core.library.weights import checked_weight, memory_of, refuse_wrapped
from dnw_core.nearest import did_you_mean

Skip = str | nn.Module | Iterable[str | nn.Module]
Layer = tuple[Sequence[str], nn.Module]  # a prunable layer with all names that it has in the network
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
        """The weight's device."""
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


def skipped(network: nn.Module, layers: Sequence[Layer], skip: Skip) -> set[nn.Module]:
    """Return the layers that are skipped.

    Args:
        network: the whole.
        layers: its prunable layers.
        skip: patterns and modules, see ``find_targets``.

    Raises:
        UserError: if something is neither pattern nor module, is not part of the network, or skips nothing.
    """
    found: set[nn.Module] = set()
    for entry in _entries(skip):
        found |= _inside(network, layers, entry) if isinstance(entry, nn.Module) else _matching(layers, entry)
    return found


def weight_name(layer_name: str) -> str:
    """Dotted name of the weight of the layer that is called ``layer_name``; "" is the network itself."""
    return f"{layer_name}.weight" if layer_name else "weight"


def _entries(skip: Skip) -> list[str | nn.Module]:
    # a Sequential is a module and can be iterated, too: it is meant as a whole
    if isinstance(skip, str | nn.Module):
        return [skip]
    if not isinstance(skip, Iterable) or hasattr(skip, "shape"):
        raise _wrong(skip)
    entries = list(skip)
    for entry in entries:
        if not isinstance(entry, str | nn.Module):
            raise _wrong(entry)
    return entries


def _wrong(value: object) -> UserError:
    # a tensor prints on many lines
    shown = type(value).__name__ if hasattr(value, "shape") else repr(value)
    return UserError(
        f"skip holds {shown}, which is neither a pattern of names (such as 'head' or 'layer1.*') nor a module"
    )


def _inside(network: nn.Module, layers: Sequence[Layer], module: nn.Module) -> set[nn.Module]:
    kind = type(module).__name__
    if not any(module is other for other in network.modules()):
        raise UserError(f"skip holds a {kind} that is not part of the network (of a copy of it, perhaps?)")
    within = set(module.modules())
    found = {layer for _, layer in layers if layer in within}
    if not found:
        name = next(name for name, other in network.named_modules() if other is module)
        raise UserError(f"skip holds {name!r} ({kind}), in which there is no prunable weight")
    return found


def _matching(layers: Sequence[Layer], pattern: str) -> set[nn.Module]:
    found = {layer for names, layer in layers if any(_matches(pattern, name) for name in names)}
    if not found:
        known = dict.fromkeys(around for names, _ in layers for name in names for around in _with_surroundings(name))
        raise UserError(f"skip has {pattern!r}, which matches no prunable weight{did_you_mean(pattern, known)}")
    return found


def _matches(pattern: str, layer_name: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in _with_surroundings(layer_name))


def _with_surroundings(layer_name: str) -> list[str]:
    """The weight's name, the layer's, and those of the modules around it: a.b.weight, a, a.b."""
    parts = layer_name.split(".") if layer_name else []
    return [weight_name(layer_name), *(".".join(parts[:end]) for end in range(1, len(parts) + 1))]
