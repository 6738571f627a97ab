"""Networks with their rules for tests. Drawing a network's weights takes longer than wiring it, so a few are kept."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from dnw_core.config.networks import NetworkConfig
from dnw_core.config.rules import WiringConfig
from dnw_core.library.removal import undo_attaching
from dnw_core.models.build import build_network, wire
from dnw_core.models.graph import Graph

_KEPT = 3  # a row has as many scales
_kept: dict[NetworkConfig, tuple[nn.Module, dict[str, Tensor]]] = {}


def wired(config: NetworkConfig, wiring: WiringConfig) -> tuple[Any, list[Graph]]:
    """The network of seed 0 with the rule attached, and its graphs.

    The network may be an earlier caller's, its rules taken off and its weights as they were drawn.
    """
    network, drawn = _kept.pop(config, (None, {}))
    if network is None:
        network = build_network(config, 0)
        drawn = copy.deepcopy(network.state_dict())
        while len(_kept) >= _KEPT:
            del _kept[next(iter(_kept))]
    else:
        undo_attaching(network)
        network.load_state_dict(drawn)
    _kept[config] = network, drawn
    return network, wire(network, wiring, 0)
