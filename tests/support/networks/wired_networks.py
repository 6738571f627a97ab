"""Networks of seed 0 with their rules; the weights of the last networks are drawn once and copied for each caller."""

from __future__ import annotations

import copy
import functools
from typing import Any

from torch import nn

from dnw_core.config import NetworkConfig, WiringConfig
from dnw_core.models.build import build_network, wire
from dnw_core.models.graph import Graph


def wired(network: NetworkConfig, wiring: WiringConfig) -> tuple[Any, list[Graph]]:
    """The network with the rule attached, and its graphs; one without graphs is every caller's."""
    made: Any = _drawn(network)
    if made.graphs():
        made = copy.deepcopy(made)
    return made, wire(made, wiring, 0)


@functools.lru_cache(maxsize=3)  # rows of one network follow each other, each at three scales
def _drawn(network: NetworkConfig) -> nn.Module:
    return build_network(network, 0)
