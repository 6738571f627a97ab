"""Taking rules off where the weight has other parametrisations: these are not ours, and what is computed stays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.networks.every_rule import DRAWING, RULES, WEIGHTS, arguments, sparse
from support.networks.sparsify_workers import batch, network, train
from torch import Tensor, distributed, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from dnw_core import layer_table, remove_rules, sparsify
from dnw_core.config.later_rules import RigLConfig
from dnw_core.errors import UserError
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rules.drop_and_grow import RigL
from dnw_core.wiring.rules.fixed import RandomGraph
from dnw_core.wiring.slots import Slots


class Halved(nn.Module):
    """A parametrisation of somebody's own; in training it does something else."""

    def forward(self, weight: Tensor) -> Tensor:
        """Half of the weight."""
        return weight if self.training else weight / 2


def halve(layer: nn.Module) -> None:
    """Lay it over what is there."""
    parametrize.register_parametrization(layer, "weight", Halved())


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each rule that can be attached to a network by itself."""
    return request.param


@pytest.mark.parametrize("lay_over", [spectral_norm, halve])
def test_what_lies_over_a_rule_stays(rule: str, lay_over: Callable[[nn.Module], Any]) -> None:
    """The network computes the same in evaluation and keeps its own parametrisations, untouched, whatever its mode."""
    made = sparse(rule)
    layer: nn.Module = made[0]  # type: ignore[index, assignment]
    lay_over(layer)
    halve(layer)
    train(made, *batch())
    images, expected = batch()[0], made.eval()(batch()[0])
    chain: Any = layer.parametrizations["weight"]  # type: ignore[index, union-attr]
    over, weights = list(chain)[1:], [here.weight for here in attached_rules(made)]
    state = copy.deepcopy([link.state_dict() for link in over])
    remove_rules(made.train())
    assert all(module.training for module in made.modules())
    assert list(chain) == over
    for link, before in zip(over, state, strict=True):
        assert all(value.equal(link.state_dict()[name]) for name, value in before.items())
    assert torch.equal(made.eval()(images), expected)
    assert not layer_table(made).rows
    assert [id(chain.original), id(made[2].weight), id(made[5].weight)] == [id(one) for one in weights]  # type: ignore[index, union-attr]
    assert all(parameter.requires_grad for parameter in made.parameters())
    made.train()(images).sum().backward()
    parametrize.remove_parametrizations(layer, "weight")
    assert sorted(made.state_dict()) == sorted(network().state_dict())


def test_what_fills_the_empty_slots_is_named_in_the_table() -> None:
    """An orthogonal matrix over a sparse one is dense: no table, but taking the rule off is still right."""
    made = nn.Linear(6, 6)
    sparsify(made, "top-edges", 0.25)
    orthogonal(made, use_trivialization=False)
    with pytest.raises(UserError, match=r"^weight: _Orthogonal lies over the rule and fills what it leaves empty"):
        layer_table(made)
    x = torch.randn(3, 6)
    expected = made(x)
    remove_rules(made)
    assert torch.equal(made(x), expected)
    spectral = nn.Linear(6, 6)
    sparsify(spectral, "top-edges", 0.25)
    spectral_norm(spectral)
    state = copy.deepcopy(spectral.state_dict())
    assert layer_table(spectral).total.kept == 9
    assert all(value.equal(spectral.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("under", [halve, weight_norm])
def test_a_rule_that_lies_over_something_is_refused(under: Callable[[nn.Module], Any]) -> None:
    """Registered by hand, since sparsify refuses it; nothing is taken off, on the other weights neither."""
    made = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    sparsify(made, "rigl", 0.5, skip="1")
    under(made[1])
    config = RigLConfig(rule="rigl", density=0.5)
    parametrize.register_parametrization(made[1], "weight", RigL(config, Slots((6, 6)), torch.Generator()))
    expected = made(torch.ones(1, 6))
    for call in (remove_rules, layer_table):
        with pytest.raises(
            UserError, match=r"^1\.weight: the rule is applied after (Halved|_WeightNorm), so it does not see"
        ):
            call(made)
    assert len(list(attached_rules(made))) == 3
    assert torch.equal(made(torch.ones(1, 6)), expected)


def test_a_rule_that_was_registered_by_hand_is_refused() -> None:
    """It does not know how its weight was before."""
    made = nn.Linear(6, 6)
    rule = RigL(RigLConfig(rule="rigl", density=0.5), Slots((6, 6)), torch.Generator())
    parametrize.register_parametrization(made, "weight", rule)
    with pytest.raises(UserError, match=r"^weight: the rule was registered by hand"):
        remove_rules(made)
    assert len(list(attached_rules(made))) == 1


def test_a_rule_that_fails_in_evaluation_takes_none_off() -> None:
    """The others are not off either, and everything is in the mode that it was in."""

    class Failing(RandomGraph):
        """Has nothing to say of a linear layer's weight in evaluation."""

        def forward(self, weight: Tensor) -> Tensor:
            if not self.training and weight.ndim == 2:
                raise RuntimeError("not yet")
            return super().forward(weight)

    made = network()
    # the last layer's comes off first; what fails lies in the middle
    made.append(nn.Conv2d(5, 5, 1))  # type: ignore[operator]
    sparsify(made, Failing, 0.5)
    before = copy.deepcopy(made.state_dict())
    with pytest.raises(RuntimeError, match="not yet"):
        remove_rules(made)
    assert len(list(attached_rules(made))) == 4
    assert all(module.training for module in made.modules())
    assert all(value.equal(made.state_dict()[name]) for name, value in before.items())


def test_removing_takes_off_rules_alone(rule: str) -> None:
    """What the user laid over a rule stays, and every weight trains again."""
    made = sparse(rule)
    halve(made[0])  # type: ignore[index]
    remove_rules(made)
    assert [type(link) for link in made[0].parametrizations["weight"]] == [Halved]  # type: ignore[index, union-attr]
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert not list(attached_rules(made))


@pytest.mark.parametrize("rule", [*DRAWING, "edge-popup"])
def test_copies_of_a_parametrised_layer_do_not_meet(rule: str) -> None:
    """PyTorch lets them share a class: what is attached to or taken off the one leaves the other as it was."""
    first = network()
    parametrize.register_parametrization(first[0], "bias", Halved())  # type: ignore[index]
    second = copy.deepcopy(first)
    images = batch()[0]
    expected = first.eval()(images)
    sparsify(second, **arguments(rule))
    assert torch.equal(first(images), expected)
    third = copy.deepcopy(second)
    expected = third.eval()(images)
    remove_rules(second)
    assert torch.equal(third(images), expected)
    remove_rules(third)
    assert torch.equal(third(images), expected)
    assert sorted(third.state_dict()) == sorted(first.state_dict())


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Any]:
    """A mesh of this process alone."""
    from torch.distributed.device_mesh import init_device_mesh

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def test_sharded_weights_are_refused_by_either_way(alone: Any) -> None:
    """After fully_shard neither sparsify nor remove_rules goes on; one sentence, and nothing is changed."""
    from torch.distributed.fsdp import fully_shard

    made = network()
    fully_shard(made, mesh=alone)
    with pytest.raises(
        UserError, match=r"^0\.weight is sharded already \(a DTensor\); call sparsify first, then fully_"
    ):
        sparsify(made, "top-edges", 0.25)
    assert not list(attached_rules(made))
    made = sparse("top-edges")
    fully_shard(made, mesh=alone)
    with pytest.raises(UserError, match=r"^0\.weight is sharded by FSDP2 \(DTensor\), and wiring rules act on whole"):
        remove_rules(made)
    assert [here.name for here in attached_rules(made)] == WEIGHTS
    layer = nn.Linear(6, 6)
    sparsify(layer, "top-edges", 0.25)
    layer.__class__ = type("Other", (type(layer),), {})
    with pytest.raises(UserError, match=r"^weight: the layer's class was changed to Other after the rule"):
        remove_rules(layer)
