"""One call makes any network sparse: a wiring rule on the weights of all its convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from dnw_core.errors import UserError
from dnw_core.library.removal import undo_attaching
from dnw_core.library.settings import ChosenRule, choose_rule
from dnw_core.library.table import LayerTable, layer_table
from dnw_core.library.targets import Target, find_targets
from dnw_core.wiring.config_base import Layers, RuleConfig
from dnw_core.wiring.layers import settle
from dnw_core.wiring.rule import WiringRule, attach, generator_for
from dnw_core.wiring.slots import Slots


def sparsify(
    module: nn.Module,
    rule: str | RuleConfig | type[WiringRule],
    density: float | None = None,
    *,
    skip: Sequence[str] | str = (),
    layers: Layers = "uniform",
    seed: int = 0,
    **settings: Any,
) -> LayerTable:
    """Attach a wiring rule to the weights of all convolutions and linear layers; return what each of them keeps.

    Make the optimiser afterwards: some rules have parameters of their own.

    Args:
        module: any network; changed in place.
        rule: the name of a registered rule ("top-edges", "rigl", ...), its settings, or a subclass of ``WiringRule``.
        density: fraction of the weights that is kept, above 0 and at most 1; None for rules that keep no fixed share
            (complete, constant-fan, soft-threshold) and with a settings object.
        skip: patterns of weights that stay dense, see ``targets.find_targets``.
        layers: "uniform", the density holds in every weight, or "erk", in the whole (rules that have this setting).
        seed: of what the rule draws; with the weights' names it decides alone.
        **settings: further settings of the rule.

    Raises:
        UserError: if anything does not fit; nothing is attached then.
    """
    chosen = choose_rule(rule, density, layers, settings)
    targets = find_targets(module, skip)
    rules = _build(chosen, targets, seed)
    try:
        for target, built in zip(targets, rules, strict=True):
            attach(target.module, "weight", built)
    except BaseException:
        for target in targets:
            undo_attaching(target.module)
        raise
    return layer_table(module)


def _build(chosen: ChosenRule, targets: list[Target], seed: int) -> list[WiringRule]:
    """Return each weight's rule, on the weight's device."""
    rules = []
    for target, slots in zip(targets, settle(chosen.settings, [Slots(one.shape) for one in targets]), strict=True):
        try:
            built = chosen.build(chosen.settings, slots, generator_for(seed, target.name))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{target.name}: {error}") from error
        rules.append(built.to(target.device))
    return rules
