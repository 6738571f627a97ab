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


def laid_over(here: AttachedRule) -> list[str]:
    """Names of the classes of what was registered after the rule and is applied to what it returns."""
    return [type(child).__name__ for child in list(here.chain.children())[1:]]


def refuse_buried(here: AttachedRule) -> None:
    """Check that the rule is applied to the weight itself, as ``sparsify`` sees to.

    Raises:
        UserError: if another parametrisation lies under it: its edges are then not those of what the layer is given.
    """
    under = next(iter(here.chain.children()))
    if under is not here.rule:
        raise UserError(
            f"{here.name}: the rule is applied after {type(under).__name__}, so it does not see the weight; take both "
            "off (torch.nn.utils.parametrize.remove_parametrizations), and lay the other one over the rule if need be"
        )


def refuse_unremovable(here: AttachedRule) -> None:
    """Check that the rule can be taken off.

    Raises:
        UserError: if something lies under it, it was not attached by us, the weight is sharded, or the layer's class
            was changed since.
    """
    refuse_buried(here)
    if not hasattr(here.rule, "origin"):
        raise UserError(f"{here.name}: the rule was registered by hand and not by sparsify, so there is no way back")
    refuse_sharded(here.weight, here.name)
    if here.weight_name not in vars(type(here.module)):
        raise UserError(
            f"{here.name}: the layer's class was changed to {type(here.module).__name__} after the rule was "
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


def take_off(here: AttachedRule) -> None:
    """Take the rule alone off; the weight keeps its values and trains as it did before the rule came."""
    weight, origin, chain = here.weight, here.rule.origin, here.chain
    weight.requires_grad_(origin.trainable)
    if len(chain) > 1:
        del chain[0]
        return
    own_class(here.module)
    parametrize.remove_parametrizations(here.module, here.weight_name, leave_parametrized=False)
    # the weight came back as the last of the parameters: those that stood behind it follow
    parameters = here.module._parameters
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


def effective_in_evaluation(here: AttachedRule) -> Tensor:
    """What the layer multiplies with in evaluation, all parametrisations included."""
    chain = here.chain
    with evaluating(chain):
        effective: Tensor = chain()
    return effective
