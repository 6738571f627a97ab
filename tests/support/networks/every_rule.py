"""A small network with any of the rules that can be attached to one by itself."""

from __future__ import annotations

from typing import Any

from torch import nn

from dnw_core import sparsify
from dnw_core.config import RULES as REGISTERED
from support.networks.sparsify_workers import network

# what a rule needs beside a density of a quarter; a rule that is registered later needs nothing or an entry here
SETTINGS: dict[str, dict[str, Any]] = {"constant-fan": {"factor": 4}, "top-kast": {"backward_density": 0.5}}
RULES = [rule for rule, settings in REGISTERED.items() if not settings.needs_parent]
WEIGHTS = ["0.weight", "2.weight", "5.weight"]
# rules whose first edges are drawn by lot, each slot as likely as any other
DRAWING = ["fixed-random", "sparse-momentum", "set", "rigl"]


def arguments(rule: str) -> dict[str, Any]:
    """What ``sparsify`` needs for this rule, so that about a quarter of the weights is kept."""
    given: dict[str, Any] = {"rule": rule, **SETTINGS.get(rule, {})}
    return given | ({"density": 0.25} if "density" in REGISTERED[rule].model_fields else {})


def sparse(rule: str, seed: int = 0, made: nn.Module | None = None) -> nn.Module:
    """The small network, or the given one, with a rule on its weights."""
    made = network() if made is None else made
    sparsify(made, seed=seed, **arguments(rule))
    return made
