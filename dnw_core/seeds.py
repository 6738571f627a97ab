"""Seeds for each purpose, derived from a trial's seed by a hash that is the same everywhere and for ever."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for ``purpose``; independent streams for different purposes or trial seeds."""
    text = "\0".join([str(seed), *(str(part) for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") >> 1
