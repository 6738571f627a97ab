"""Liveness and cost: against brute force, hand-computed small cases, and the facts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dnw_core.config.networks import TinyContinuousConfig, TinyDiscreteConfig, TinyStaticConfig
from dnw_core.config.rules import FixedRandomConfig, TopEdgesConfig
from dnw_core.models.build import build_network, build_wired
from dnw_core.models.layers import ode
from dnw_core.wiring.attach import attached_rules

SMALL = {"nodes": 20, "input_nodes": 4, "output_nodes": 3}
SMALL_CONFIGS: dict[str, Any] = {
    "tiny-static": TinyStaticConfig(kind="tiny-static", block_nodes=4, **SMALL),
    "tiny-discrete": TinyDiscreteConfig(kind="tiny-discrete", steps=3, **SMALL),
    "tiny-discrete-1": TinyDiscreteConfig(kind="tiny-discrete", steps=1, **SMALL),
    "tiny-continuous": TinyContinuousConfig(kind="tiny-continuous", ode_ends="reference", **SMALL),
}


def in_four_steps(field: Any, start: Tensor, **settings: Any) -> tuple[Tensor, list[ode.AcceptedStep], int]:
    """The solver, with steps that depend on nothing."""
    steps = [ode.AcceptedStep(t / 4, 0.25) for t in range(4)]
    return ode.replay(field, start, steps, clamp_ends=settings["clamp_ends"]), steps, 25


@pytest.mark.parametrize("edges", [6, 20, 40])
@pytest.mark.parametrize("name", sorted(SMALL_CONFIGS))
def test_live_edges_are_those_whose_removal_moves_the_logits(
    name: str, edges: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brute force in float64: an edge is live exactly if the logits change when it is taken away.

    Norm biases are positive, so that no ReLU silences a node that only hears a constant.
    """
    config = SMALL_CONFIGS[name]
    # the solver's choice of steps depends on dead nodes too, and where their ends are clamped the logits on the steps
    monkeypatch.setattr(ode, "solve", in_four_steps)
    network: Any = build_network(config, seed=1).double()
    generator = torch.Generator().manual_seed(edges)
    mask = torch.zeros(400, dtype=torch.bool)
    mask[torch.randperm(400, generator=generator)[:edges]] = True
    mask = mask.view(20, 20)
    images = torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    moves = torch.zeros_like(mask)
    with torch.no_grad():
        network.norm_bias += 1.0
        network.edges.weight.copy_(torch.randn(20, 20, generator=generator) * mask)
        whole = network(images)  # batch statistics: about half of each input map is positive
        for receiver, sender in mask.nonzero().tolist():
            weight = float(network.edges.weight[receiver, sender])
            network.edges.weight[receiver, sender] = 0.0
            moves[receiver, sender] = bool((network(images) - whole).abs().max() > 1e-4)
            network.edges.weight[receiver, sender] = weight
    live = network.liveness({"graph": mask})["graph"]
    assert torch.equal(live.edges, moves)
    assert torch.equal(live.nodes, live.edges.any(dim=0))


def test_cost_of_a_small_static_network_by_hand() -> None:
    """Counted on paper: 10 nodes (2 inputs, blocks of 4, 2 outputs), four edges of which two are live."""
    config = TinyStaticConfig(kind="tiny-static", nodes=10, input_nodes=2, output_nodes=2, block_nodes=4)
    network: Any = build_network(config, seed=0)
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[3, 0] = True  # input 0 -> node 3
    mask[9, 3] = True  # node 3 -> output 9: both live
    mask[4, 1] = True  # input 1 -> node 4, which sends nowhere: dead
    mask[0, 5] = True  # into an input node: never read
    cost = network.cost({"graph": mask})
    stem = (27 * 16 + 16) + 32 + (9 * 16 + 16) + (16 * 2 + 2) + 4
    classifier = 2 * 10 + 10
    assert cost.edges == 4
    assert cost.live_edges == 2
    assert cost.live_nodes == 2  # nodes 0 and 3 have a live outgoing edge
    assert cost.parameters == stem + classifier + 9 * 10 + 4
    assert cost.live_parameters == stem + classifier + 9 * 2 + 2
    stem_macs = 27 * 16 * 256 + 9 * 16 * 64 + 16 * 2 * 64
    read_out = 4 * 2 + 2 * 10
    assert cost.macs == stem_macs + (4 + 9 * 4) * 64 + read_out  # senders 0, 1, 3, 5
    assert cost.live_macs == stem_macs + (2 + 9 * 2) * 64 + read_out
    usable = 2 * 8 + 4 * 4 + 4 * 2  # inputs to all later, block to later, last block to the outputs
    assert cost.dense_macs == stem_macs + (usable + 9 * 10) * 64 + read_out


def test_discrete_macs_count_every_step() -> None:
    """Five steps cost five times the graph."""
    config = TopEdgesConfig(rule="top-edges", density=0.05)
    costs = []
    for steps in (1, 5):
        network: Any
        network, _ = build_wired(TinyDiscreteConfig(kind="tiny-discrete", steps=steps), config, 0)
        (attached,) = attached_rules(network)
        costs.append(network.cost({"graph": attached.edges()}))
    graph = (32_000 + 9 * 800) * 64
    assert costs[1].macs - costs[0].macs == 4 * graph
    assert costs[1].applications == 5


def test_continuous_counts_the_evaluations_that_the_solver_made() -> None:
    """Facts 1.4: some 38 evaluations at the start for a small batch; MACs follow what was measured."""
    network: Any
    network, _ = build_wired(
        TinyContinuousConfig(kind="tiny-continuous", ode_ends="reference"),
        FixedRandomConfig(rule="fixed-random", density=0.05),
        seed=0,
    )
    network.eval()
    with torch.no_grad():
        network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert 20 <= network.applications <= 50
    (attached,) = attached_rules(network)
    cost = network.cost({"graph": attached.edges()})
    assert cost.applications == network.applications
    network.reset_applications()
    assert network.applications == 0


def test_released_random_graph_in_the_cost() -> None:
    """Facts 1.6: some 27,05x live edges of 32,000 and 732 sending nodes."""
    network: Any
    network, _ = build_wired(
        TinyStaticConfig(kind="tiny-static"), FixedRandomConfig(rule="fixed-random", density=0.05), 0
    )
    (attached,) = attached_rules(network)
    cost = network.cost({"graph": attached.edges()})
    assert 26_800 < cost.live_edges < 27_260
    assert cost.live_nodes == 732
    assert cost.parameters == 41_458
