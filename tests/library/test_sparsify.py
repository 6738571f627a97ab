"""The rules on anybody's network: what is attached, what the table says, what survives, and the way back."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.networks.every_rule import RULES, WEIGHTS, sparse
from support.networks.sparsify_workers import batch, network, train
from torch import nn

import dnw_core
from dnw_core import effective_weights, layer_table, remove_rules, sparsify
from dnw_core.config.later_rules import RigLConfig
from dnw_core.config.rule_base import LayeredConfig, SparseConfig
from dnw_core.library.table import LayerRow
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.layers import erdos_renyi_kernel
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.rules.drop_and_grow import RigL
from dnw_core.wiring.rules.fixed import RandomGraph


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each rule that can be attached to a network by itself."""
    return request.param


def test_the_table_is_counted_by_hand() -> None:
    """Conv 3 to 8 (216 slots), conv 8 to 16 (1,152), linear 64 to 5 (320), each rounded up by itself."""
    made = network()
    table = sparsify(made, "top-edges", 0.1)
    assert table.rows == (
        LayerRow("0.weight", (8, 3, 3, 3), 216, 22),
        LayerRow("2.weight", (16, 8, 3, 3), 1152, 116),
        LayerRow("5.weight", (5, 64), 320, 32),
    )
    assert (table.total.slots, table.total.kept, table.total.density) == (1688, 170, 170 / 1688)
    assert str(table).splitlines() == [
        "weight    shape     slots  kept  density",
        "0.weight  8x3x3x3     216    22   10.19%",
        "2.weight  16x8x3x3  1,152   116   10.07%",
        "5.weight  5x64        320    32   10.00%",
        "total               1,688   170   10.07%",
    ]
    assert layer_table(made) == table


def test_the_table_tells_what_is_now_and_what_is_to_come() -> None:
    """A rule that begins dense says how many edges it ends with; one that acts through hooks says through which."""
    made = network()
    table = sparsify(made, "gradual-pruning", 0.25, layers="erk")
    assert (table.total.kept, table.goal) == (1688, 422)
    assert str(table).splitlines()[-2:] == [
        "in the end 422 are kept (25.00%)",
        "acts through dnw_core.Wiring while training: begin, after_step, after_epoch",
    ]
    train(made, *batch())
    assert layer_table(made).total.kept == 422
    assert layer_table(made).goal is None


def test_edges_are_divided_by_erdos_renyi_kernel() -> None:
    """The whole keeps the density (each weight's own rounded up, then shared out), the weights what ERK gives them."""
    table = sparsify(network(), "rigl", 0.1, layers="erk")
    assert [row.kept for row in table.rows] == erdos_renyi_kernel([row.shape for row in table.rows], 170)
    assert len({round(row.density, 2) for row in table.rows}) == 3


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        ((), ["head.weight", "stage1.0.weight", "stage1.1.weight", "stage2.weight"]),
        ("head", ["stage1.0.weight", "stage1.1.weight", "stage2.weight"]),
        (["head.weight", "stage1"], ["stage2.weight"]),
        (["stage?"], ["head.weight"]),
        (["*.1"], ["head.weight", "stage1.0.weight", "stage2.weight"]),
        (["s*.weight"], ["head.weight"]),
    ],
)
def test_patterns_skip_by_weight_layer_and_surroundings(skip: Any, left: list[str]) -> None:
    """A pattern matches the weight's name, its layer's, or that of a module around it."""
    made = nn.ModuleDict(
        {"head": nn.Linear(4, 4), "stage1": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), "stage2": nn.Linear(4, 4)}
    )
    assert sorted(row.name for row in sparsify(made, "top-edges", 0.5, skip=skip).rows) == left
    assert sorted(here.name for here in attached_rules(made)) == left


def test_all_kinds_of_layers_and_a_lone_one() -> None:
    """Convolutions of every dimension, transposed or not, and a linear layer that is the whole network."""
    kinds = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    made = nn.Sequential(*[kind(4, 6, 3) for kind in kinds], nn.BatchNorm2d(6), nn.Embedding(3, 4))
    assert [row.kept for row in sparsify(made, "fixed-random", 0.5).rows] == [36, 108, 324, 36, 108, 324]
    assert made[4](torch.randn(2, 4, 5, 5)).shape == (2, 6, 7, 7)
    assert [row.name for row in sparsify(nn.Linear(8, 8), "set", 0.5).rows] == ["weight"]


def test_a_layer_used_twice_is_one_weight() -> None:
    """It is listed once, under its first name, and skipped by any of its names."""
    layer = nn.Linear(4, 4)
    made = nn.ModuleDict({"first": layer, "again": layer, "other": nn.Linear(4, 4)})
    assert [row.name for row in sparsify(made, "set", 0.5, skip="again").rows] == ["other.weight"]
    remove_rules(made)
    assert [row.name for row in sparsify(made, "set", 0.5).rows] == ["first.weight", "other.weight"]


def test_a_rule_is_a_name_settings_or_a_class() -> None:
    """The three ways attach the same; a class of one's own is built with its constructor's settings."""
    made = [network() for _ in range(3)]
    sparsify(made[0], "rigl", 0.25, updates=7)
    sparsify(made[1], RigLConfig(rule="rigl", density=0.25, updates=7))
    sparsify(made[2], RigL, 0.25, updates=7)
    for other in made[1:]:
        assert all(a.equal(b) for a, b in zip(made[0].state_dict().values(), other.state_dict().values(), strict=True))

    seen = []

    class Mine(RandomGraph):
        """Notes its settings."""

        def __init__(self, config: OwnConfig, slots: Any, generator: torch.Generator) -> None:
            WiringRule.__init__(self, slots, config.budget)
            self.register_buffer("mask", torch.ones(slots.shape, dtype=torch.bool))
            seen.append(config)

    sparsify(network(), Mine, 1, pace=3.0, layers="erk")
    assert seen == [OwnConfig(density=1.0, pace=3.0, layers="erk")] * 3


class OwnConfig(LayeredConfig):
    """Settings of somebody's own rule; they need no name."""

    pace: float = 1.0


def test_the_weights_name_and_the_seed_decide_what_is_drawn() -> None:
    """The same seed draws alike, another one and another weight differently."""
    drawn = [dict(edges_of(sparse("fixed-random", seed))) for seed in (0, 0, 1)]
    assert all(drawn[0][name].equal(drawn[1][name]) for name in WEIGHTS)
    assert not any(drawn[0][name].equal(drawn[2][name]) for name in WEIGHTS)
    twins = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    sparsify(twins, "fixed-random", 0.5)
    assert not torch.equal(*[mask for _, mask in edges_of(twins)])


def edges_of(made: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The present edges by name."""
    yield from dnw_core.Wiring(made).edges().items()


def test_state_goes_into_a_fresh_network_with_another_seed(rule: str) -> None:
    """After loading, both compute and train on the same."""
    first, second = sparse(rule), sparse(rule, seed=7)
    train(first, *batch())
    second.load_state_dict(first.state_dict())
    for made in (first, second):
        train(made.train(), *batch())
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_copy_is_independent_and_whole(rule: str) -> None:
    """Training a deep copy leaves the original alone, and the copy's rules come off by themselves."""
    made = sparse(rule)
    before = copy.deepcopy(made.state_dict())
    clone = copy.deepcopy(made)
    train(clone, *batch())
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in before.items())
    remove_rules(clone)
    assert len(layer_table(made).rows) == 3
    assert not layer_table(clone).rows
    expected = clone.eval()(batch()[0])
    train(made, *batch())
    remove_rules(made)
    assert torch.equal(clone(batch()[0]), expected)


def test_what_is_computed_once_is_nobody_elses() -> None:
    """Within one context a copy uses its own weights, and a pass without gradients does not take them from the next."""
    made = sparse("top-edges")
    clone = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.mul_(-2)
    images, _ = batch()
    expected = clone(images)
    with effective_weights():
        made(images)
        assert torch.equal(clone(images), expected)
    with effective_weights():
        with torch.no_grad():
            made(images)
        made(images).sum().backward()
    assert all(here.gradient is not None and here.gradient.any() for here in attached_rules(made))


def test_removal_leaves_a_plain_network_that_computes_the_same(rule: str) -> None:
    """As evaluation computes, whatever the mode; classes, parameters, their order and their training as before."""
    plain = network()
    made = sparse(rule)
    parameters = {name: id(here.weight) for name, here in zip(WEIGHTS, attached_rules(made), strict=True)}
    train(made, *batch())
    images, _ = batch()
    with torch.no_grad():
        expected = made.eval()(images)
        edges = dict(edges_of(made))
        remove_rules(made.train())
        assert made.training
        assert torch.equal(made(images), expected)
    assert list(made.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in made.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert [type(module) for module in made.modules()] == [type(module) for module in plain.modules()]
    assert all(vars(a).keys() == vars(b).keys() for a, b in zip(made.modules(), plain.modules(), strict=True))
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert parameters == {name: id(value) for name, value in made.named_parameters() if name in WEIGHTS}
    assert not any(made.get_parameter(name)[~edges[name]].any() for name in WEIGHTS)
    assert pickle.loads(pickle.dumps(made))(images).equal(expected)
    assert copy.deepcopy(made)(images).equal(expected)
    made(images).sum().backward()


def test_removal_without_rules_and_of_frozen_weights() -> None:
    """A plain network is left alone; a weight that its user had frozen stays frozen."""
    made = network()
    remove_rules(made)
    made[0].weight.requires_grad_(False)
    sparsify(made, "edge-popup", 0.5)
    remove_rules(made)
    assert [made.get_parameter(name).requires_grad for name in WEIGHTS] == [False, True, True]


@pytest.mark.parametrize("rule", ["top-edges", "edge-popup", "soft-threshold"])
def test_autocast_rounds_products_only(rule: str) -> None:
    """Under bf16 the layers compute in bf16; weights, their gradients and the edges stay as in float32."""
    made = sparse(rule)
    before = dict(edges_of(made))
    with torch.autocast("cpu", torch.bfloat16):
        output = made(batch()[0])
    assert output.dtype is torch.bfloat16
    output.float().square().mean().backward()
    for here in attached_rules(made):
        assert here.edges().equal(before[here.name])
        trained = here.rule.scores if rule == "edge-popup" else here.weight
        assert trained.grad.dtype is torch.float32
        assert trained.grad.any()


def test_the_front_door_opens_every_name() -> None:
    """``dnw_core`` has what it says, a function where a function is meant, and refuses the rest."""
    for name in dnw_core.__all__:
        assert callable(getattr(dnw_core, name))
        assert name in dir(dnw_core)
    with pytest.raises(AttributeError, match="no attribute 'sparsity'"):
        dnw_core.sparsity  # noqa: B018


def test_a_rule_that_fails_while_it_is_attached_leaves_no_trace() -> None:
    """The weights that had one already lose it again, with all their values."""

    class Refusing(RandomGraph):
        """Adopts two weights and refuses the third."""

        def __init__(self, config: SparseConfig, slots: Any, generator: torch.Generator) -> None:
            WiringRule.__init__(self, slots, config.budget)
            self.register_buffer("mask", torch.zeros(slots.shape, dtype=torch.bool))

        def on_attach(self, weight: nn.Parameter) -> None:
            if weight.shape == (5, 64):
                raise RuntimeError("not this one")

    made = network()
    with pytest.raises(RuntimeError, match="not this one"):
        sparsify(made, Refusing, 0.5)
    assert list(made.state_dict()) == list(network().state_dict())
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), network().parameters(), strict=True))


@pytest.mark.parametrize("rule", ["snip", "ac-dc", "sparse-momentum"])
def test_each_call_divides_its_own_edges(rule: str) -> None:
    """Two densities in one network: the rules of a call share theirs and take none of the other's."""
    made = network()
    sparsify(made, rule, 0.1, skip=["2", "5"])
    sparsify(made, rule, 0.5, skip="0")
    train(made, *batch())
    kept = [row.kept for row in layer_table(made).rows]
    assert (kept[0], kept[1] + kept[2]) == (22, 576 + 160)
