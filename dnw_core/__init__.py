"""The science: networks, wiring rules, data, one training run, and the cost of what was found.

Importing this package loads neither torch nor any other heavy library, so that a plan can be printed
in a fraction of a second; the modules below load what they need. The names of ``__all__``, the rules as a library
(docs/sparsify.md), are loaded at their first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dnw_core.library.attaching import sparsify
    from dnw_core.library.removal import remove_rules
    from dnw_core.library.table import LayerTable, layer_table
    from dnw_core.wiring.hooks import Wiring
    from dnw_core.wiring.rule import Run, WiringRule, effective_weights

__all__ = [
    "LayerTable",
    "Run",
    "Wiring",
    "WiringRule",
    "effective_weights",
    "layer_table",
    "remove_rules",
    "sparsify",
]

_HOMES = {
    "LayerTable": "dnw_core.library.table",
    "Run": "dnw_core.wiring.rule",
    "Wiring": "dnw_core.wiring.hooks",
    "WiringRule": "dnw_core.wiring.rule",
    "effective_weights": "dnw_core.wiring.rule",
    "layer_table": "dnw_core.library.table",
    "remove_rules": "dnw_core.library.removal",
    "sparsify": "dnw_core.library.attaching",
}


def __getattr__(name: str) -> Any:
    """Load one of ``__all__`` at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
