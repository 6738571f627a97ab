"""The base of every configuration object: frozen, strict, unknown fields forbidden, hashable.

Design: a configuration is the one source from which help texts, the printed plan, the fingerprint and
the tracker's parameters are derived. It therefore holds plain JSON values only, and its canonical form
leaves out every field at its default: a field added later with the default "as before" does
not change the fingerprint of anything that was trained earlier.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from pydantic import BaseModel, ConfigDict

FINGERPRINT_LENGTH = 8

# pydantic's context where a row or a command is validated: what may no longer be trained is refused there. A record of
# what was trained once is read without it.
TO_BE_TRAINED = {"to be trained": True}


class Config(BaseModel):
    """A frozen, strictly typed configuration object."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


def canonical_json(config: Config) -> str:
    """Return the configuration as JSON with sorted keys and without defaulted fields.

    Discriminators (``kind``, ``rule``) have no default and always stay.

    Raises:
        ValueError: if a value cannot be hashed reproducibly (a NaN, or anything that is not JSON).
    """
    values = config.model_dump(mode="json", exclude_defaults=True)
    _refuse_unhashable(values, "")
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(config: Config) -> str:
    """Return the short hash that identifies the configuration (8 hexadecimal digits of SHA-256)."""
    digest = hashlib.sha256(canonical_json(config).encode("utf-8")).hexdigest()
    return digest[:FINGERPRINT_LENGTH]


def flatten(config: Config) -> dict[str, Any]:
    """Return every setting, defaults included, under its dotted name (``optimiser.learning_rate``)."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    walk("", config.model_dump(mode="json"))
    return flat


def _refuse_unhashable(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'the value'} is {value}, which has no reproducible hash; give a finite number")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unhashable(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_unhashable(inner, f"{where}[{index}]")
