"""The way back: rules are taken off, and weights with zeros outside the edges stay."""

from __future__ import annotations

from torch import nn

from dnw_core.library.chains import evaluating, refuse_unremovable, take_off
from dnw_core.wiring.attach import attached_rules


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
    # the last first, so that each weight can return to its position among its module's parameters
    attached = list(attached_rules(module))[::-1]
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
