"""Counts the networks of rows at paper scale: builds each one once, trains nothing, reads no data.

A graph network has 13 million weights, from which each rule selects its own edges; all rows of one network share the
weights of seed 0, and what is counted once for a network and a rule (or a number of edges) serves every such row. In a
residual network only the numbers of edges matter: nothing is selected from its 25 million weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dnw_core.config import NetworkConfig, WiringConfig
from dnw_core.models.build import build_network, build_rule
from dnw_core.models.graph import Graph, GraphNetwork
from dnw_core.wiring.layers import settle
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.slots import Slots
from pipelines.counts.table import Count, RowCounts
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
    """A network with the weights of seed 0, and the counts made so far."""

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._network = cast(GraphNetwork, build_network(config, SEED))
        self._graphs = self._network.graphs()
        self._by_rule: dict[str, RowCounts] = {}
        self._by_edges: dict[tuple[int, ...], Count] = {}

    def counts(self, wiring: WiringConfig) -> RowCounts:
        """Return what the network costs under a rule."""
        key = wiring.model_dump_json()
        if key not in self._by_rule:
            self._by_rule[key] = self._counts(wiring)
        return self._by_rule[key]

    def _counts(self, wiring: WiringConfig) -> RowCounts:
        slots = settle(wiring, [graph.slots for graph in self._graphs])
        at_start, edges = (None, None) if wiring.needs_parent else self._at_start(wiring, slots)
        if wiring.edges_learned or wiring.budget is not None:
            edges = _last_edges(wiring, slots)
        nothing_dead = None if edges is None else self._nothing_dead(edges)
        if nothing_dead is not None and not wiring.fixed_layer_sizes:  # the total is known, and with it the parameters
            nothing_dead = nothing_dead.model_copy(update={"macs": None})
        return RowCounts(nothing_dead=nothing_dead, at_start=at_start)

    def _at_start(self, wiring: WiringConfig, slots: Sequence[Slots]) -> tuple[Count, tuple[int, ...]]:
        """Count the edges that the rule begins with; also return how many each graph has."""
        rules = [build_rule(wiring, one, SEED, graph.name) for graph, one in zip(self._graphs, slots, strict=True)]
        promised = [rule.promised_edges for rule in rules]
        if self._config.cost_needs_counts_only and None not in promised:
            edges = tuple(one for one in promised if one is not None)
            return self._nothing_dead(edges), edges
        masks = {graph.name: _first_edges(graph, rule) for graph, rule in zip(self._graphs, rules, strict=True)}
        return self._count(masks), tuple(int(mask.count_nonzero()) for mask in masks.values())

    def _nothing_dead(self, edges: tuple[int, ...]) -> Count:
        """Count so many edges of each graph, none of them dead."""
        if edges not in self._by_edges:
            mask_of = _any_mask if self._config.cost_needs_counts_only else alive_mask
            chosen = zip(self._graphs, edges, strict=True)
            self._by_edges[edges] = self._count({graph.name: mask_of(graph.slots, kept) for graph, kept in chosen})
        return self._by_edges[edges]

    def _count(self, masks: dict[str, Tensor]) -> Count:
        cost = self._network.cost(masks)
        parameters = cost.parameters_with_norm if self._config.cost_includes_norms else cost.parameters
        known = cost.applications > 0  # a solver's steps are counted while it solves
        return Count(parameters=parameters, macs=cost.macs if known else None)


def _any_mask(slots: Slots, edges: int) -> Tensor:
    """Return a boolean mask of ``edges`` arbitrary slots."""
    return (torch.arange(slots.numel) < edges).view(slots.shape)


@torch.no_grad()
def _first_edges(graph: Graph, rule: WiringRule) -> Tensor:
    """Return the edges that the rule begins with."""
    weight = nn.Parameter(graph.module.get_parameter(graph.weight_name).clone())  # a rule may change the weight
    rule.on_attach(weight)
    return rule.edges(weight)


def _last_edges(wiring: WiringConfig, slots: Sequence[Slots]) -> tuple[int, ...] | None:
    """Return how many edges each weight ends with by the rule's settings; None if they do not determine it."""
    budget = wiring.budget
    if budget is None:
        return None
    return tuple(budget.edges(one.numel, one.law) if one.kept is None else one.kept for one in slots)


def alive_mask(slots: Slots, edges: int) -> Tensor:
    """Return ``edges`` usable slots as a boolean mask of the weight's shape, with as few dead nodes as possible.

    First each sender gets one edge, spread over its receivers from the last one on (a block's last receivers are its
    outputs), then each receiver that has none yet; the rest comes in the order of the slots.
    """
    usable = torch.ones(slots.shape, dtype=torch.bool) if slots.usable is None else slots.usable
    usable = usable.flatten(1)
    senders = usable.shape[1]
    mask = torch.zeros_like(usable)
    for column, receivers in enumerate(_receivers(usable)):
        if edges and len(receivers):
            mask[receivers[-1 - column % len(receivers)], column] = True
            edges -= 1
    lonely = (usable.any(dim=1) & ~mask.any(dim=1)).nonzero().flatten()[:edges]
    mask[lonely, usable[lonely].int().argmax(dim=1)] = True
    free = (usable & ~mask).view(-1).nonzero().flatten()[: edges - len(lonely)]
    mask[free // senders, free % senders] = True
    return mask.view(slots.shape)


def _receivers(usable: Tensor) -> list[Tensor]:
    """Return the rows that each column may send to; neighbours with the same ones share a tensor."""
    patterns, which = torch.unique_consecutive(usable, dim=1, return_inverse=True)
    rows = [pattern.nonzero().flatten() for pattern in patterns.T]
    return [rows[index] for index in which.tolist()]
