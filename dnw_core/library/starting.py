"""Where the edges begin of rules that draw them, and a warning where drawing loses what was learned."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from dnw_core.errors import UserError
from dnw_core.library.targets import Target
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.rules.fixed import ExpanderGraph, RandomGraph
from dnw_core.wiring.rules.stored_mask import DynamicSparseRule
from dnw_core.wiring.selection import largest_magnitudes

Start = Literal["drawn", "largest"]

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
# lazy layers learn their shapes from one batch, which trains nothing
BATCHES_OF_A_TRIAL = 1


def choose_start(
    network: nn.Module, name: str, targets: Sequence[Target], rules: Sequence[WiringRule], start: Start | None
) -> None:
    """Put the first edges on the largest magnitudes if that is asked for; if nothing is, warn where it matters.

    Args:
        network: all of it; its norms show whether it was trained.
        name: the rule's.
        targets: the weights, as they are before the rules come.
        rules: theirs, on the weights' devices, not yet attached.
        start: "drawn", "largest", or None: drawn, with a warning if the network has been trained.

    Raises:
        UserError: if ``start`` is neither, the rule draws no edges, or draws them with a structure.
    """
    if start is not None and start not in get_args(Start):
        raise UserError(f"start is {start!r}; it is one of: {', '.join(get_args(Start))}")
    fan = any(isinstance(rule, ExpanderGraph) for rule in rules)
    draws = fan or any(isinstance(rule, RandomGraph | DynamicSparseRule) for rule in rules)
    if start is not None and not draws:
        raise UserError(f"rule {name!r} draws no edges, so there is no start to choose; leave start out")
    if start == "largest":
        if fan:
            raise UserError(
                f"rule {name!r} gives every neuron the same number of partners, which the largest weights do not have; "
                'it takes start="drawn" alone'
            )
        for target, rule in zip(targets, rules, strict=True):
            _start_from_largest(rule, target.weight)
    elif start is None and draws:
        _warn_if_trained(network, name, targets, rules, fan)


def _start_from_largest(rule: WiringRule, weight: Tensor) -> None:
    mask = largest_magnitudes(weight, rule.kept_edges, rule.slots.usable)
    (rule.present if isinstance(rule, DynamicSparseRule) else rule.get_buffer("mask")).copy_(mask)
    assert rule.edges(weight).equal(mask), f"{type(rule).__name__} does not begin with the edges that it was given"


def _warn_if_trained(
    network: nn.Module, name: str, targets: Sequence[Target], rules: Sequence[WiringRule], fan: bool
) -> None:
    slots, kept = (sum(target.weight.numel() for target in targets), sum(rule.kept_edges for rule in rules))
    sign = _sign_of_training(network) if kept < slots else None
    if sign is None:
        return
    better = "" if fan else 'start="largest" keeps the largest magnitudes instead, '
    warnings.warn(
        f"the network has been trained ({sign}), and rule {name!r} draws by lot which {kept / slots:.1%} of its "
        f'weights are kept: what the others have learned is lost; {better}start="drawn" says that this is meant',
        UserWarning,
        stacklevel=4,
    )


def _sign_of_training(network: nn.Module) -> str | None:
    """What no fresh network shows: a norm that has counted batches or learned different biases; None if neither."""
    for module_name, module in network.named_modules():
        if not isinstance(module, NORMS):
            continue
        seen = getattr(module, "num_batches_tracked", None)
        if isinstance(seen, Tensor) and not seen.is_meta and int(seen) > BATCHES_OF_A_TRIAL:
            return f"{module_name} has seen {int(seen):,} batches"
        if _differs(module.bias):
            return f"the biases of {module_name} differ"
    return None


@torch.no_grad()
def _differs(values: object) -> bool:
    if not isinstance(values, Tensor) or is_traceable_wrapper_subclass(values) or values.is_meta:
        return False
    return values.numel() > 1 and bool((values != values.reshape(-1)[0]).any())
