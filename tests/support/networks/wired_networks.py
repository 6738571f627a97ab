"""Networks with their rules for tests; ResNet-50, whose 25 million weights take a while to draw, is kept."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from torch import Tensor, nn

from dnw_core.config import NetworkConfig, WiringConfig
from dnw_core.library.removal import undo_attaching
from dnw_core.models.build import build_network, build_wired, wire
from dnw_core.models.graph import Graph


def wired(network: NetworkConfig, wiring: WiringConfig) -> tuple[Any, list[Graph]]:
    """The network of seed 0 with the rule attached, and its graphs.

    ResNet-50 is the last caller's, its rules taken off and its weights as they were drawn.
    """
    if network.kind != "resnet50":
        return build_wired(network, wiring, seed=0)
    return _Kept.wired(network, wiring)


class _Kept:
    built: ClassVar[dict[NetworkConfig, tuple[nn.Module, dict[str, Tensor]]]] = {}

    @classmethod
    def wired(cls, config: NetworkConfig, wiring: WiringConfig) -> tuple[nn.Module, list[Graph]]:
        if config not in cls.built:
            network = build_network(config, 0)
            cls.built = {config: (network, copy.deepcopy(network.state_dict()))}
        network, drawn = cls.built[config]
        undo_attaching(network)
        network.load_state_dict(drawn)
        return network, wire(network, wiring, 0)
