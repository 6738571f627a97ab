"""What rules need of the optimiser, said before the first step rather than found out after the run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from dnw_core.errors import UserError
from dnw_core.wiring.momenta import no_momentum, refuse_without_momentum
from dnw_core.wiring.rule import Attached, WiringRule


def check_optimiser(
    kind: type[WiringRule], places: Sequence[Attached], optimiser: torch.optim.Optimizer | None
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
    for place in places:
        for own_name, own in place.rule.named_parameters(recurse=False):
            if own.requires_grad and id(own) not in decay:
                warnings.warn(
                    f"the optimiser does not train {place.name}'s {own_name}, by which {name} decides its edges; make the "
                    "optimiser after sparsify",
                    stacklevel=4,
                )
            elif own_name in kind.decayed_parameters and not decay.get(id(own)):
                warnings.warn(
                    f"{place.name}'s {own_name} has no weight decay, which alone makes {name} sparse; put it into a "
                    "parameter group with weight decay",
                    stacklevel=4,
                )


def refuse_missing_momentum(places: Sequence[Attached]) -> None:
    """See after a step that an optimiser has a momentum of what it has trained, where a rule reads it.

    Raises:
        UserError: naming the rule.
    """
    for place in places:
        if place.rule.reads_momentum and place.optimiser is not None and place.gradient is not None:
            # without any state the step may be one that a GradScaler passed over
            if place.optimiser.state.get(place.weight) and place.momentum is None:
                raise UserError(no_momentum(type(place.rule).__name__))
