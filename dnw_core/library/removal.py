"""The way back: rules are taken off, and plain weights with zeros outside the edges stay."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from dnw_core.wiring.rule import Attached, attached_rules


def remove_rules(module: nn.Module) -> None:
    """Take all wiring rules off; each weight keeps the values that evaluation uses, in whatever mode the module is.

    The module is then as it was before in all but these values: the same classes, the same parameters in the same
    order, trainable where they were before (also the weights that edge-popup froze). What a rule trained itself, its
    scores or thresholds, is gone. A module without rules is left alone.
    """
    for place in _last_first(module):
        weight = place.weight
        with torch.no_grad():
            effective = place.rule.eval()(weight)
            if effective is not weight:
                weight.copy_(effective)
        _detach(place)


def undo_attaching(module: nn.Module) -> None:
    """Take all wiring rules off and leave the dense weights as they are."""
    for place in _last_first(module):
        _detach(place)


def _last_first(module: nn.Module) -> list[Attached]:
    """The attached rules in reverse, so that each weight can return to its place among its module's parameters."""
    return list(attached_rules(module))[::-1]


def _detach(place: Attached) -> None:
    weight, origin = place.weight, place.rule.origin
    parametrize.remove_parametrizations(place.module, place.weight_name, leave_parametrized=False)
    weight.requires_grad_(origin.trainable)
    # the weight came back as the last of the parameters: those that stood behind it follow
    parameters = place.module._parameters
    for name in list(parameters)[origin.position : -1]:
        parameters[name] = parameters.pop(name)
