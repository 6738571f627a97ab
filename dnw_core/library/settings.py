"""From what a user calls a rule (a name, a settings object, a class) to the rule's class and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from pydantic import ValidationError

from dnw_core.config import RULE_CLASSES, Layers, RuleConfig, WiringConfig
from dnw_core.errors import UserError
from dnw_core.library.density import as_written, checked_density, instead_of_sparsity
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


def registered() -> dict[str, type[RuleConfig]]:
    """The settings of every registered rule by its name."""
    return {_literal(kind): kind for kind in get_args(get_args(WiringConfig)[0])}


def _literal(kind: type[RuleConfig]) -> str:
    name: str = get_args(kind.model_fields["rule"].annotation)[0]
    return name


def _from_name(name: str) -> tuple[str, RuleBuilder, type[RuleConfig]]:
    known = registered()
    own = own_name(name, known)
    if own is None:
        alike = did_you_mean(name, (*known, *ALIASES))
        raise UserError(f"there is no wiring rule {name!r}{alike} (known: {', '.join(known)})")
    return own, load_class(RULE_CLASSES[own]), known[own]


def _from_settings(settings: RuleConfig) -> ChosenRule:
    name = next((name for name, kind in registered().items() if type(settings) is kind), None)
    if name is None:
        raise UserError(
            f"{type(settings).__name__} are no settings of a registered rule; give the rule's class instead"
        )
    return ChosenRule(name, load_class(RULE_CLASSES[name]), settings)


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
        values["rule"] = _literal(kind)
    if "density" in fields:
        values["density"] = checked_density(name, density)
    elif density is not None:
        raise UserError(f"rule {name!r} takes no density; leave it out")
    if layers not in get_args(Layers):
        raise UserError(f"layers is {layers!r}; it is one of: {', '.join(get_args(Layers))}")
    if "layers" in fields:
        values["layers"] = layers
    elif layers != "uniform":
        able = ", ".join(known for known, other in registered().items() if "layers" in other.model_fields)
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
