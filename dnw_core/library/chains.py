"""The chain of parametrisations on one weight, in which the rule is ours and all else is the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dnw_core.errors import UserError
from dnw_core.wiring.rule import AttachedRule
from dnw_core.wiring.sharded import refuse_sharded


def chain_of(place: AttachedRule) -> parametrize.ParametrizationList:
    """All parametrisations of the weight, in the order in which they are applied."""
    chains = place.module.parametrizations
    assert isinstance(chains, nn.ModuleDict)
    chain = chains[place.weight_name]
    assert isinstance(chain, parametrize.ParametrizationList)
    return chain


def laid_over(place: AttachedRule) -> list[str]:
    """Names of the classes of what was registered after the rule and is applied to what it returns."""
    return [type(child).__name__ for child in list(chain_of(place).children())[1:]]


def refuse_buried(place: AttachedRule) -> None:
    """Check that the rule is applied to the weight itself, as ``sparsify`` sees to.

    Raises:
        UserError: if another parametrisation lies under it: its edges are then not those of what the layer is given.
    """
    under = next(iter(chain_of(place).children()))
    if under is not place.rule:
        raise UserError(
            f"{place.name}: the rule lies over {type(under).__name__}, so it does not see the weight; take both off "
            "(torch.nn.utils.parametrize.remove_parametrizations), and lay the other one over the rule if need be"
        )


def refuse_unremovable(place: AttachedRule) -> None:
    """Check that the rule can be taken off.

    Raises:
        UserError: if something lies under it, it was not attached by us, the weight is sharded, or the layer's class
            was changed since.
    """
    refuse_buried(place)
    if not hasattr(place.rule, "origin"):
        raise UserError(f"{place.name}: the rule was registered by hand and not by sparsify, so there is no way back")
    refuse_sharded(place.weight, place.name)
    if place.weight_name not in vars(type(place.module)):
        raise UserError(
            f"{place.name}: the layer's class was changed to {type(place.module).__name__} after the rule was "
            "attached; undo that first"
        )


def own_class(module: nn.Module) -> None:
    """Give a parametrised module a class of its own.

    PyTorch makes one for each parametrised module, but ``copy.deepcopy`` lets the copy share it: what is registered on
    or taken off the one, the other would gain or lose.
    """
    if parametrize.is_parametrized(module):
        shared = type(module)
        body = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
        make: type[type] = type(shared)
        module.__class__ = make(shared.__name__, shared.__bases__, body)


def take_off(place: AttachedRule) -> None:
    """Take the rule alone off; the weight keeps its values and trains as it did before the rule came."""
    weight, origin, chain = place.weight, place.rule.origin, chain_of(place)
    weight.requires_grad_(origin.trainable)
    if len(chain) > 1:
        del chain[0]
        return
    own_class(place.module)
    parametrize.remove_parametrizations(place.module, place.weight_name, leave_parametrized=False)
    # the weight came back as the last of the parameters: those that stood behind it follow
    parameters = place.module._parameters
    for name in list(parameters)[origin.position : -1]:
        parameters[name] = parameters.pop(name)


@contextmanager
def evaluating(chain: nn.Module) -> Iterator[None]:
    """Within this context the chain, or one link of it, computes as in evaluation; no buffer of it moves."""
    modes = [(link, link.training) for link in chain.modules()]
    chain.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for link, mode in modes:
            link.training = mode


def effective_in_evaluation(place: AttachedRule) -> Tensor:
    """What the layer multiplies with in evaluation, all parametrisations included."""
    chain = chain_of(place)
    with evaluating(chain):
        effective: Tensor = chain()
    return effective
