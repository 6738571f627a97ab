"""The way back: rules are taken off, and weights with zeros outside the edges stay."""

from __future__ import annotations

from torch import nn

from dnw_core.library.chains import evaluating, refuse_unremovable, take_off
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import AttachedRule


def remove_rules(module: nn.Module) -> None:
    """Take all wiring rules off; each weight keeps the values that evaluation uses, in whatever mode the module is.

    The module is then as it was before in all but these values: the same classes, the same parameters in the same
    order, trainable where they were before (also the weights that edge-popup froze). What a rule trained itself, its
    scores or thresholds, is gone. A module without rules is left alone, as is a copy of this one.

    Other parametrisations are not ours: what the user laid over a rule (``spectral_norm``, say) stays and is applied
    to the same values as before.

    Raises:
        UserError: if a rule lies over another parametrisation, or a weight was sharded; nothing is changed then.
    """
    attached = _last_first(module)
    for here in reversed(attached):
        refuse_unremovable(here)
        # once for nothing: what a rule may have to object to, it says before the first one is off
        with evaluating(here.rule):
            here.rule(here.weight)
    for here in attached:
        with evaluating(here.rule):
            weight = here.weight
            effective = here.rule(weight)
            if effective is not weight:
                weight.copy_(effective)
        take_off(here)


def undo_attaching(module: nn.Module) -> None:
    """Take all wiring rules off and leave the dense weights, and other parametrisations, as they are."""
    for here in _last_first(module):
        take_off(here)


def _last_first(module: nn.Module) -> list[AttachedRule]:
    """The attached rules in reverse, so that each weight can return to its place among its module's parameters."""
    return list(attached_rules(module))[::-1]
