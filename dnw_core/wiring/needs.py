"""What rules need of the optimiser, said before the first step rather than found out after the run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from dnw_core.errors import UserError
from dnw_core.wiring.momenta import no_momentum, refuse_without_momentum
from dnw_core.wiring.rule import AttachedRule, WiringRule


def check_optimiser(
    kind: type[WiringRule], attached: Sequence[AttachedRule], optimiser: torch.optim.Optimizer | None
) -> None:
    """See that the rules of one class can act with this optimiser.

    Raises:
        UserError: if they need one and there is none, or it keeps no momentum and they read it.
    """
    name = kind.__name__
    if optimiser is None:
        if kind.reads_momentum or kind.changes_optimiser:
            raise UserError(
                f"{name} acts on what the optimiser keeps of the weights; give it: Wiring(network, optimiser)"
            )
        return
    if kind.reads_momentum:
        refuse_without_momentum(optimiser, name)
    decay = {id(one): group.get("weight_decay", 0.0) for group in optimiser.param_groups for one in group["params"]}
    for here in attached:
        if kind.changes_optimiser and here.weight.requires_grad and id(here.weight) not in decay:
            warnings.warn(
                f"the optimiser does not train {here.name}, so {name} finds nothing of it there; where several "
                "optimisers train a network, give each a Wiring of its part, or else freeze the weight",
                stacklevel=4,
            )
        for own_name, own in here.rule.named_parameters(recurse=False):
            if own.requires_grad:
                _warn_of_parameter(here, own_name, decay.get(id(own)))


def _warn_of_parameter(here: AttachedRule, name: str, decay: float | None) -> None:
    """Warn of a rule's own parameter that is not trained (None) or not decayed as the rule wants it."""
    rule = type(here.rule).__name__
    if decay is None:
        warnings.warn(
            f"the optimiser does not train {here.name}'s {name}, by which {rule} decides its edges; make the "
            "optimiser after sparsify",
            stacklevel=5,
        )
    elif name in here.rule.decayed_parameters and not decay:
        warnings.warn(
            f"{here.name}'s {name} has no weight decay, which alone makes {rule} sparse; put it into a parameter "
            "group with weight decay",
            stacklevel=5,
        )


def refuse_missing_momentum(attached: Sequence[AttachedRule]) -> None:
    """See after a step that an optimiser has a momentum of what it has trained, where a rule reads it.

    Raises:
        UserError: naming the rule.
    """
    for here in attached:
        if not here.rule.reads_momentum or here.optimiser is None or here.gradient is None:
            continue
        # without any state the step may be one that a GradScaler passed over
        if here.optimiser.state.get(here.weight) and here.momentum is None:
            raise UserError(no_momentum(type(here.rule).__name__))


def warn_of_no_gradient(attached: Sequence[AttachedRule]) -> bool:
    """Warn if rules act on gradients and not one is there; return whether that was so."""
    acting = [here for here in attached if here.rule.acts_at("before_step") and here.weight.requires_grad]
    if not acting or any(here.gradient is not None for here in acting):
        return False
    warnings.warn(
        f"before_step finds no gradient, and {type(acting[0].rule).__name__} acts on gradients; call it between "
        "backward() and the optimiser's step, before gradients are cleared",
        stacklevel=5,
    )
    return True
