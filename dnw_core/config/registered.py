"""The rules and networks that have a name in YAML: every settings class that names its implementation."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Annotated, TypeVar, Union, get_args

from pydantic import Field

from dnw_core.config import later_rules, networks, ordinary_networks, residual_networks, rules
from dnw_core.config.base import Config
from dnw_core.config.network_base import ImageNetworkConfig
from dnw_core.config.rule_base import RuleConfig

Settings = TypeVar("Settings", bound=Config)


def name_of(settings: type[Config], field: str) -> str:
    """Return the one value of the ``Literal`` field by which a settings class is told from others."""
    name: str = get_args(settings.model_fields[field].annotation)[0]
    return name


def _registered(base: type[Settings], field: str, modules: tuple[ModuleType, ...]) -> dict[str, type[Settings]]:
    """The subclasses that name an implementation, by their own name, in the order of their definition."""
    return {
        name_of(kind, field): kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == module.__name__
        if "implementation" in vars(kind)
    }


RULES = _registered(RuleConfig, "rule", (rules, later_rules))
NETWORKS = _registered(ImageNetworkConfig, "kind", (networks, ordinary_networks, residual_networks))

if TYPE_CHECKING:
    WiringConfig = RuleConfig
    NetworkConfig = ImageNetworkConfig
else:
    WiringConfig = Annotated[Union[tuple(RULES.values())], Field(discriminator="rule")]  # noqa: UP007
    NetworkConfig = Annotated[Union[tuple(NETWORKS.values())], Field(discriminator="kind")]  # noqa: UP007
