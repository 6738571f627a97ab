"""The optimiser of every row, and which parameters weight decay leaves alone (``optimiser.undecayed``; facts 3, Q17).

The released code tells norms by their names, and those of its ResNet-50's shortcuts are called otherwise. Here a norm
is known by its module; ``norms-off-shortcuts`` leaves out the same four, by the name that our networks give a shortcut.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dnw_core.config import OptimiserConfig, Recipe
from dnw_core.training.engine.sgd import EagerSGD

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
SHORTCUT = "shortcut"
HELD_NORM = "norm_"  # begins the names of norm parameters that a network holds itself, without a module


def make_optimiser(recipe: Recipe, model: nn.Module) -> EagerSGD:
    """Return SGD with momentum over every parameter, decayed but for the recipe's undecayed ones (facts 3)."""
    settings = recipe.optimiser
    return EagerSGD(
        parameter_groups(settings, model),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def parameter_groups(settings: OptimiserConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Return the model's parameters as groups of an optimiser: all in one, or the decayed ones before the others.

    Each group keeps the model's order, so that a checkpoint finds every parameter's momentum again. What a wiring rule
    trains itself is decayed like a weight.
    """
    if settings.undecayed == "nothing":
        return [{"params": list(model.parameters())}]
    undecayed = undecayed_names(settings, model)
    named = list(model.named_parameters())
    return [
        {"params": [parameter for name, parameter in named if name not in undecayed]},
        {"params": [parameter for name, parameter in named if name in undecayed], "weight_decay": 0.0},
    ]


def undecayed_names(settings: OptimiserConfig, model: nn.Module) -> set[str]:
    """Return the dotted names of the parameters without weight decay."""
    if settings.undecayed == "nothing":
        return set()
    of_norms = {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name.startswith(HELD_NORM)
    }
    if settings.undecayed == "norms":
        return of_norms
    return {name for name in of_norms if SHORTCUT not in name.split(".")}
