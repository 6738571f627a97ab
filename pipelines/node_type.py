"""A kind of machine that a cluster does not have yet, but that its autoscaler can start."""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple


class NodeType(NamedTuple):
    """The shape of one machine."""

    cpus: float
    gpus: float = 0.0


def parse_node_type(text: str) -> NodeType:
    """Read ``CPU=16,GPU=4`` (the GPUs may be left out)."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not equals or name not in ("CPU", "GPU") or name in found or not 0 <= number < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is no machine; give CPU=NUMBER or CPU=NUMBER,GPU=NUMBER")
        found[name] = number
    if not found.get("CPU"):
        raise argparse.ArgumentTypeError(f"{text!r} has no CPU; give CPU=NUMBER or CPU=NUMBER,GPU=NUMBER")
    return NodeType(found["CPU"], found.get("GPU", 0.0))
