"""Counts the networks of rows at paper scale: builds each one once, trains nothing, reads no data.

A graph network has 13 million weights, from which each rule selects its own edges; all rows of one network share the
weights of seed 0, and what is counted once for a network and a rule (or a number of edges) serves every such row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor

from dnw_core.models.build import build_network, build_rule
from dnw_core.models.config import NetworkConfig
from dnw_core.models.graph import GraphNetwork
from dnw_core.wiring.config import WiringConfig
from pipelines.costs_alive import alive_mask
from pipelines.costs_counts import Count, RowCounts
from tune_configs import Row

SEED = 0


def count_rows(rows: Iterable[Row]) -> dict[str, RowCounts]:
    """Return the counts by the fingerprint of each row's recipe at paper scale."""
    networks: dict[str, _Network] = {}
    found: dict[str, RowCounts] = {}
    for row in rows:
        recipe = row.recipe_at("paper")
        key = recipe.network.model_dump_json()
        if key not in networks:
            networks[key] = _Network(recipe.network)
        found[row.fingerprint_at("paper")] = networks[key].counts(recipe.wiring)
    return found


class _Network:
    """A network with the weights of seed 0, and what was counted of it."""

    def __init__(self, config: NetworkConfig) -> None:
        self._norms_counted = config.norms_counted
        self._network = cast(GraphNetwork, build_network(config, SEED))
        self._graphs = self._network.graphs()
        self._by_rule: dict[str, RowCounts] = {}
        self._by_edges: dict[tuple[int, ...], Count] = {}

    def counts(self, wiring: WiringConfig) -> RowCounts:
        """Return what the network costs under a rule."""
        key = wiring.model_dump_json()
        if key not in self._by_rule:
            masks = None if wiring.needs_parent else self._masks(wiring)
            nothing_dead = self._nothing_dead(wiring, masks)
            at_start = nothing_dead if not self._graphs else self._count(masks) if masks is not None else None
            self._by_rule[key] = RowCounts(nothing_dead=nothing_dead, at_start=at_start)
        return self._by_rule[key]

    def _masks(self, wiring: WiringConfig) -> dict[str, Tensor]:
        """Return the edges that the rule begins with."""
        with torch.no_grad():
            return {
                graph.name: build_rule(wiring, graph.slots, SEED, graph.name).edges(
                    graph.module.get_parameter(graph.weight_name)
                )
                for graph in self._graphs
            }

    def _nothing_dead(self, wiring: WiringConfig, masks: dict[str, Tensor] | None) -> Count:
        """Count as many edges as the rule ends with (as it begins with, where it has no budget), none of them dead."""
        budget = wiring.budget
        if budget is not None:
            edges = [budget.edges(graph.slots.numel, graph.slots.law) for graph in self._graphs]
        else:
            assert masks is not None
            edges = [int(masks[graph.name].count_nonzero()) for graph in self._graphs]
        key = tuple(edges)
        if key not in self._by_edges:
            alive = zip(self._graphs, edges, strict=True)
            self._by_edges[key] = self._count({graph.name: alive_mask(graph.slots, kept) for graph, kept in alive})
        return self._by_edges[key]

    def _count(self, masks: dict[str, Tensor]) -> Count:
        cost = self._network.cost(masks)
        parameters = cost.parameters_with_norm if self._norms_counted else cost.parameters
        known = cost.applications > 0  # a solver's steps are counted while it solves
        return Count(parameters=parameters, macs=cost.macs if known else None)
