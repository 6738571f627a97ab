"""What ``skip`` says: patterns of names, or the layers and other modules themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from dnw_core.errors import UserError
from dnw_core.nearest import did_you_mean

Skip = str | nn.Module | Iterable[str | nn.Module]
Layer = tuple[Sequence[str], nn.Module]  # a prunable layer with all names that it has in the network


def skipped(network: nn.Module, layers: Sequence[Layer], skip: Skip) -> set[nn.Module]:
    """Return the layers that are skipped.

    Args:
        network: the whole.
        layers: its prunable layers.
        skip: patterns and modules, see ``targets.find_targets``.

    Raises:
        UserError: if something is neither pattern nor module, is no part of the network, or skips nothing.
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
        raise UserError(f"skip holds a {kind} that is no part of the network (of a copy of it, perhaps?)")
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
