"""What each rule does that the others do not: gradients, ranked slots, drawn slots (others: files of their own)."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter
from support.references.prescribed import through_two_by_two
from torch import nn

from dnw_core.config import WiringConfig
from dnw_core.config.networks import TinyStaticConfig
from dnw_core.config.rules import CompleteConfig, FixedRandomConfig, L1AnnealConfig, NoUpdateConfig, TopEdgesConfig
from dnw_core.models.build import build_rule, build_wired
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.slots import Slots

STATIC = TinyStaticConfig(kind="tiny-static")
WIRING: TypeAdapter[WiringConfig] = TypeAdapter(WiringConfig)


def test_top_edges_gradient_reaches_every_slot_but_no_signal_passes_hidden_edges() -> None:
    """Hand-computed: y = W x with two of four edges kept; dL/dW is g x^T everywhere, dL/dx uses kept edges only."""
    rule = build_rule(TopEdgesConfig(rule="top-edges", density=0.5), Slots((2, 2)), 0, "w")
    y, of_weight, of_x = through_two_by_two(rule)
    assert y == [[15.0, -14.0]]  # 3*5, -2*7: the edges 1 and -0.5 carry nothing
    assert of_weight == [[5.0, 7.0], [50.0, 70.0]]  # <g_v, Z_u> for all four
    assert of_x == [[3.0, -20.0]]


def test_fixed_random_gradient_stays_on_its_edges() -> None:
    """Outside the mask the gradient is exactly zero."""
    layer = nn.Linear(20, 20, bias=False)
    attach(layer, "weight", build_rule(FixedRandomConfig(rule="fixed-random", density=0.1), Slots((20, 20)), 0, "w"))
    layer(torch.randn(4, 20)).sum().backward()
    (attached,) = attached_rules(layer)
    assert attached.weight.grad is not None
    assert torch.equal(attached.weight.grad != 0, attached.edges())


def test_no_update_moves_its_edges_only() -> None:
    """Hand-computed: DNW's forward pass, but the hidden edges 1 and -0.5 get no gradient."""
    rule = build_rule(NoUpdateConfig(rule="no-update", density=0.5), Slots((2, 2)), 0, "w")
    assert through_two_by_two(rule) == ([[15.0, -14.0]], [[5.0, 0.0], [0.0, 70.0]], [[3.0, -20.0]])


def test_no_update_selects_anew_when_decay_changes_the_order() -> None:
    """An edge that shrinks below a hidden one gives its place to it."""
    layer = nn.Linear(2, 1, bias=False)
    attach(layer, "weight", build_rule(NoUpdateConfig(rule="no-update", density=0.5), Slots((1, 2)), 0, "w"))
    (attached,) = attached_rules(layer)
    for weight, kept in (([[1.0, -0.9]], [[1.0, 0.0]]), ([[0.8, -0.9]], [[0.0, -0.9]])):
        with torch.no_grad():
            attached.weight.copy_(torch.tensor(weight))
        assert layer.weight.tolist() == torch.tensor(kept).tolist()


def test_complete_is_the_plain_module() -> None:
    """Nothing is changed or copied: same output, same gradient; the edges are the usable slots."""
    layer, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict(layer.state_dict())
    usable = torch.tensor([[True, True, False], [False, True, True]])
    attach(layer, "weight", build_rule(CompleteConfig(rule="complete"), Slots((2, 3), usable=usable), 0, "w"))
    (attached,) = attached_rules(layer)
    x = torch.randn(4, 3)
    assert torch.equal(layer(x), plain(x))
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    assert torch.equal(attached.weight.grad, plain.weight.grad)  # type: ignore[arg-type]
    assert layer.weight.data_ptr() == attached.weight.data_ptr()
    assert attached.rule.promised_edges == 4
    assert torch.equal(attached.edges(), usable)


def test_a_swap_lowers_the_loss_of_the_batch() -> None:
    """The paper's claim on a toy problem: with a small step, a step that swaps an edge lowers the batch's loss."""
    torch.manual_seed(0)
    x = torch.randn(64, 6)
    target = x @ torch.randn(6, 3)
    layer = nn.Linear(6, 3, bias=False)
    attach(layer, "weight", build_rule(TopEdgesConfig(rule="top-edges", density=0.5), Slots((3, 6)), 0, "w"))
    (attached,) = attached_rules(layer)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e-3)
    swaps = 0
    for _ in range(400):
        before, edges = ((layer(x) - target) ** 2).mean(), attached.edges()
        optimiser.zero_grad()
        before.backward()
        optimiser.step()
        if not torch.equal(edges, attached.edges()):
            swaps += 1
            assert ((layer(x) - target) ** 2).mean() < before
    assert swaps > 0


def test_tiny_static_slots_agree_with_the_facts() -> None:
    """Facts 1.5 and 1.6: 264,960 usable; the released code draws from 305,600, of which 258,160 are usable."""
    network, graphs = build_wired(STATIC, TopEdgesConfig(rule="top-edges", density=0.05), 0)
    slots = graphs[0].slots
    assert slots.usable is not None
    assert slots.released_random is not None
    assert int(slots.usable.sum()) == 264_960
    assert int(slots.released_random.sum()) == 305_600
    assert int((slots.usable & slots.released_random).sum()) == 258_160
    assert not slots.released_random[:, 732:].any()
    del network


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_released_random_graph_is_fifteen_percent_dead(seed: int) -> None:
    """Facts 1.6 (Q2): about 27,050 to 27,095 of 32,000 edges are ever read; nodes 732-799 send nothing."""
    config = FixedRandomConfig(rule="fixed-random", density=0.05)
    _, graphs = build_wired(STATIC, config, seed)
    (attached,) = attached_rules(graphs[0].module)
    edges = attached.edges()
    assert int(edges.sum()) == 32_000
    # the expected count is 32,000 * 258,160 / 305,600 = 27,033 with a standard deviation of 62
    read = int((edges & graphs[0].slots.usable).sum())
    assert 26_800 < read < 27_260
    assert not edges[:, 732:].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_corrected_variants_waste_no_edge(seed: int) -> None:
    """Q1 and Q2 corrected: all 32,000 edges are usable, drawn or ranked."""
    for config in (
        FixedRandomConfig(rule="fixed-random", density=0.05, eligible_slots="corrected"),
        TopEdgesConfig(rule="top-edges", density=0.05, ranked_slots="corrected"),
    ):
        _, graphs = build_wired(STATIC, config, seed)
        (attached,) = attached_rules(graphs[0].module)
        edges = attached.edges()
        assert int(edges.sum()) == 32_000
        assert not (edges & ~graphs[0].slots.usable).any()


def test_reference_ranking_wastes_most_edges_at_the_start() -> None:
    """Facts 0.3 (Q1): at init about 13,040 of the 32,000 selected edges are usable (41 %)."""
    _, graphs = build_wired(STATIC, TopEdgesConfig(rule="top-edges", density=0.05), 0)
    (attached,) = attached_rules(graphs[0].module)
    # 32,000 * 264,960 / 640,000 = 13,248 with a standard deviation of about 86
    assert 12_900 < int((attached.edges() & graphs[0].slots.usable).sum()) < 13_600


def test_too_few_slots_are_refused() -> None:
    """More edges than usable slots: a clear sentence, not a wrong count."""
    usable = torch.zeros(4, 4, dtype=torch.bool)
    usable[0, :2] = True
    slots = Slots((4, 4), usable=usable)
    with pytest.raises(ValueError, match="4 edges are to be kept, but only 2 slots are usable"):
        build_rule(TopEdgesConfig(rule="top-edges", density=0.25, ranked_slots="corrected"), slots, 0, "w")
    for rule in ("no-update", "targeted-dropout", "lottery-ticket", "fine-tune"):
        with pytest.raises(ValueError, match="4 edges are to be kept, but only 2 slots are usable"):
            build_rule(
                WIRING.validate_python({"rule": rule, "density": 0.25, "ranked_slots": "corrected"}), slots, 0, "w"
            )
    with pytest.raises(ValueError, match="4 edges are to be kept, but only 2 slots are usable"):
        build_rule(L1AnnealConfig(rule="l1-anneal", density=0.25), slots, 0, "w")
    with pytest.raises(ValueError, match="4 edges are to be drawn from 2 slots"):
        build_rule(FixedRandomConfig(rule="fixed-random", density=0.25, eligible_slots="corrected"), slots, 0, "w")
