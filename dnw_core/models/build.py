"""From a recipe and a seed to a network with its wiring rules attached."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from dnw_core.config import NetworkConfig, WiringConfig
from dnw_core.models.graph import Graph, GraphNetwork
from dnw_core.registry import load_class
from dnw_core.seeds import derive_seed
from dnw_core.wiring.attach import attach, generator_for
from dnw_core.wiring.layers import settle
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots


def build_network(config: NetworkConfig, seed: int) -> nn.Module:
    """Return the network, initialised on the CPU from ``seed`` alone; no random state outside is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network: nn.Module = load_class(config.implementation)(config)
    return network


def build_rule(config: WiringConfig, slots: Slots, seed: int, name: str) -> WiringRule:
    """Return the rule for one weight; what it draws depends on ``seed`` and ``name`` alone."""
    rule: WiringRule = load_class(config.implementation)(config, slots, generator_for(seed, name))
    return rule


def build_wired(network_config: NetworkConfig, wiring: WiringConfig, seed: int) -> tuple[nn.Module, list[Graph]]:
    """Return the network with the rule attached to each of its graphs, and the graphs.

    Raises:
        ValueError: if a setting does not fit the network (blocks that do not add up, too few usable slots).
    """
    network = build_network(network_config, seed)
    return network, wire(network, wiring, seed)


def wire(network: nn.Module, wiring: WiringConfig, seed: int) -> list[Graph]:
    """Attach the rule to each of the network's graphs; return the graphs.

    Raises:
        ValueError: as ``build_wired``.
    """
    graphs = cast(GraphNetwork, network).graphs()
    settled = settle(wiring, [graph.slots for graph in graphs])
    for graph, slots in zip(graphs, settled, strict=True):
        attach(graph.module, graph.weight_name, build_rule(wiring, slots, seed, graph.name))
    return graphs
