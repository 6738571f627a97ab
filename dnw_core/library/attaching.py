"""One call makes any network sparse: a wiring rule on the weights of all its convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dnw_core.config import Layers, RuleConfig
from dnw_core.errors import UserError
from dnw_core.library.chains import own_class, take_off
from dnw_core.library.settings import ChosenRule, choose_rule
from dnw_core.library.starting import Start, choose_start
from dnw_core.library.table import LayerTable, layer_table
from dnw_core.library.targets import Skip, Target, find_targets
from dnw_core.wiring.attach import attach, attached_rules, generator_for
from dnw_core.wiring.layers import settle
from dnw_core.wiring.rule import AttachedRule, WiringRule
from dnw_core.wiring.slots import Slots


def sparsify(
    module: nn.Module,
    rule: str | RuleConfig | type[WiringRule],
    density: float | None = None,
    *,
    skip: Skip = (),
    layers: Layers = "uniform",
    start: Start | None = None,
    seed: int = 0,
    **settings: Any,
) -> LayerTable:
    """Attach a wiring rule to the weights of all convolutions and linear layers; return what each of them keeps.

    Make the optimiser afterwards: some rules have parameters of their own. Wrap the network (DistributedDataParallel,
    fully_shard) and compile it afterwards, too.

    Args:
        module: any network; changed in place.
        rule: the name of a registered rule ("top-edges", "rigl", ...; also "dnw", "gmp", ...: ``names.ALIASES``), its
            settings, or a subclass of ``WiringRule``.
        density: fraction of the weights that is kept, above 0 and at most 1; None for rules that keep no fixed share
            (complete, constant-fan, soft-threshold) and with a settings object.
        skip: what stays dense: patterns of names, modules, or both; see ``targets.find_targets``.
        layers: "uniform", the density holds in every weight, or "erk", in the whole (rules that have this setting).
        start: of rules that draw their first edges: "drawn", by lot, or "largest", where the weights are largest, which
            keeps most of a trained network. None draws, and warns if the network shows that it has been trained.
        seed: of what the rule draws; with the weights' names it decides alone.
        **settings: further settings of the rule.

    Raises:
        UserError: if anything does not fit. After this or any other error, also one of the rule's own code, nothing is
            attached, and all weights have their values.
    """
    chosen = choose_rule(rule, density, layers, settings)
    targets = find_targets(module, skip)
    # tensors that are made in inference mode cannot be trained with
    with torch.inference_mode(False):
        rules = _build(chosen, targets, seed)
        pool = 1 + max((here.rule.pool for here in attached_rules(module)), default=-1)
        for built in rules:
            built.pool = pool
        choose_start(module, chosen.name, targets, rules, start)
        with _all_or_nothing(targets, rules):
            for target, built in zip(targets, rules, strict=True):
                own_class(target.module)
                attach(target.module, "weight", built)
            return layer_table(module)


def _build(chosen: ChosenRule, targets: list[Target], seed: int) -> list[WiringRule]:
    """Return each weight's rule, on the weight's device, what it trains at least as precise as the weight."""
    rules = []
    for target, slots in zip(targets, settle(chosen.settings, [Slots(one.shape) for one in targets]), strict=True):
        try:
            # the generator is the CPU's, whatever device the user has made the default; scores need single precision
            with torch.device("cpu"), _single_precision():
                built = chosen.build(chosen.settings, slots, generator_for(seed, target.name))
        except ValueError as error:
            raise UserError(f"{target.name}: {error}") from error
        precise = torch.float64 if target.weight.dtype is torch.float64 else None
        rules.append(built.to(target.device, precise))
    return rules


@contextmanager
def _single_precision() -> Iterator[None]:
    """Within this context new tensors are float32, whatever the user has made the default."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


@contextmanager
def _all_or_nothing(targets: Sequence[Target], rules: Sequence[WiringRule]) -> Iterator[None]:
    """After an error within this context the weights are what they were, without the rules."""
    # only ``on_attach`` may write to a weight; a copy of every weight would be a waste for all other rules
    before = [
        target.weight.detach().clone() if type(rule).on_attach is not WiringRule.on_attach else None
        for target, rule in zip(targets, rules, strict=True)
    ]
    try:
        yield
    except BaseException:
        for target, rule, values in zip(targets, rules, before, strict=True):
            _take_back(target, rule, values)
        raise


def _take_back(target: Target, rule: WiringRule, values: Tensor | None) -> None:
    if not parametrize.is_parametrized(target.module, "weight"):
        return
    take_off(AttachedRule(target.name, rule, target.module, "weight"))
    if values is not None:
        with torch.no_grad():
            target.weight.copy_(values)
