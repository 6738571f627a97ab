"""From what a user calls a rule (a name, a settings object, a class) to the rule's class and its settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from dnw_core.config import RULES, Layers, RuleConfig, name_of
from dnw_core.errors import UserError
from dnw_core.library.names import ALIASES, own_name
from dnw_core.nearest import did_you_mean
from dnw_core.registry import load_class
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots

# said by the arguments of sparsify itself, or (width) meaningless outside the paper's graphs
NOT_SETTINGS = ("rule", "density", "layers", "width")

RuleBuilder = Callable[[Any, Slots, torch.Generator], WiringRule]


@dataclass(frozen=True)
class ChosenRule:
    """A rule with its settings.

    Attributes:
        name: what messages and tables call it.
        build: its class, called with (settings, slots, generator).
        settings: its settings.
    """

    name: str
    build: RuleBuilder
    settings: RuleConfig


def choose_rule(
    rule: str | RuleConfig | type[WiringRule], density: float | None, layers: Layers, settings: Mapping[str, Any]
) -> ChosenRule:
    """Return the rule's class and its settings, checked.

    Raises:
        UserError: if the rule, a setting or a value is unknown or does not fit, or the rule needs a parent trial.
    """
    if isinstance(rule, RuleConfig):
        chosen = _from_settings(rule)
        if density is not None or settings or layers != "uniform":
            raise UserError(
                f"the settings of rule {chosen.name!r} are complete; give no density, layers or others beside"
            )
    else:
        name, build, kind = _from_name(rule) if isinstance(rule, str) else _from_class(rule)
        chosen = ChosenRule(name, build, _make_settings(name, kind, density, layers, settings))
    if chosen.settings.needs_parent:
        raise UserError(
            f"rule {chosen.name!r} starts from a finished trial of another row, so it cannot be attached here"
        )
    return chosen


def _from_name(name: str) -> tuple[str, RuleBuilder, type[RuleConfig]]:
    own = own_name(name, RULES)
    if own is None:
        alike = did_you_mean(name, (*RULES, *ALIASES))
        raise UserError(f"there is no wiring rule {name!r}{alike} (known: {', '.join(RULES)})")
    return own, load_class(RULES[own].implementation), RULES[own]


def _from_settings(settings: RuleConfig) -> ChosenRule:
    name = next((name for name, kind in RULES.items() if type(settings) is kind), None)
    if name is None:
        raise UserError(
            f"{type(settings).__name__} are not the settings of a registered rule; give the rule's class instead"
        )
    return ChosenRule(name, load_class(settings.implementation), settings)


def _from_class(build: Any) -> tuple[str, RuleBuilder, type[RuleConfig]]:
    """A rule's class says what its settings are: the type of its constructor's ``config``."""
    if not (isinstance(build, type) and issubclass(build, WiringRule)):
        raise UserError(f"rule is {build!r}; it is a registered name, a settings object or a subclass of WiringRule")
    try:
        kind = get_type_hints(build.__init__).get("config")
    except NameError as error:
        raise UserError(f"the type of {build.__name__}'s config cannot be found: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, RuleConfig)):
        raise UserError(
            f"{build.__name__} does not say what its settings are; its constructor is "
            "(self, config: <subclass of RuleConfig>, slots, generator)"
        )
    return build.__name__, build, kind


def _make_settings(
    name: str, kind: type[RuleConfig], density: float | None, layers: Layers, settings: Mapping[str, Any]
) -> RuleConfig:
    fields = kind.model_fields
    open_names = [field for field in fields if field not in NOT_SETTINGS]
    for key in settings:
        if key == "sparsity" and key not in open_names and "density" in fields:
            raise UserError(f"rule {name!r} has no setting 'sparsity'; {instead_of_sparsity(settings[key])}")
        if key not in open_names:
            known = f"its settings: {', '.join(open_names)}" if open_names else "it has none"
            raise UserError(f"rule {name!r} has no setting {key!r}{did_you_mean(key, open_names)} ({known})")
    values = {key: as_written(value) for key, value in settings.items()}
    if "rule" in fields and get_origin(fields["rule"].annotation) is Literal:
        values["rule"] = name_of(kind, "rule")
    if "density" in fields:
        values["density"] = checked_density(name, density)
    elif density is not None:
        raise UserError(f"rule {name!r} takes no density; leave it out")
    if layers not in get_args(Layers):
        raise UserError(f"layers is {layers!r}; it is one of: {', '.join(get_args(Layers))}")
    if "layers" in fields:
        values["layers"] = layers
    elif layers != "uniform":
        able = ", ".join(known for known, other in RULES.items() if "layers" in other.model_fields)
        raise UserError(f"rule {name!r} has no layers {layers!r}; rules that have: {able}")
    try:
        return kind(**values)
    except ValidationError as error:
        raise UserError(f"rule {name!r} {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"needs the setting {where!r}"
    message = first["msg"].removeprefix("Value error, ")
    return f"refuses {where}={first['input']!r}: {message}" if where else f"refuses its settings: {message}"


def checked_density(rule: str, density: Any) -> float:
    """Return the density as a plain float.

    Raises:
        UserError: if there is none, or it is not a number above 0 and at most 1.
    """
    if density is None:
        raise UserError(f"rule {rule!r} needs a density: the fraction of the weights that is kept")
    if isinstance(density, Tensor):
        raise UserError(
            "density is a Tensor; give a plain number (its item()): the fraction of the weights that is kept"
        )
    value = float(as_written(density)) if isinstance(density, Real) and not isinstance(density, bool) else math.nan
    if not 0 < value <= 1:
        raise UserError(
            f"density is {density!r}; it is the fraction of the weights that is kept, above 0 and at most 1"
        )
    return value


def as_written(value: Any) -> Any:
    """Return a NumPy number as the plain one that it was written as, anything else as it is.

    ``np.float32(0.1)`` is 0.1, which was meant, and not the 0.10000000149 that it holds.
    """
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.integer | np.bool_) else value


def instead_of_sparsity(sparsity: Any) -> str:
    """Return the end of a sentence for a user who gave the fraction that is taken away."""
    given = as_written(sparsity)
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1:
        return f"density is 1 - sparsity: {float(1 - Fraction(repr(given))):.12g}"
    return "give density, which is 1 - sparsity"
