"""Finding a registered class by its import string, so that settings can be read without loading torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_class(location: str) -> Any:
    """Return the object at ``package.module:Name``."""
    module_name, _, name = location.partition(":")
    return getattr(import_module(module_name), name)
