"""Which parameters weight decay leaves alone, on the networks' real names (facts 3, Q17)."""

from __future__ import annotations

import pytest
import torch
from support.stubs.tiny_trials import small_recipe
from torch import nn

from dnw_core.config.recipe import OptimiserConfig
from dnw_core.models.build import build_wired
from dnw_core.registry import load_class
from dnw_core.training.engine.optimiser import make_optimiser, parameter_groups, undecayed_names

RESNET50 = {"kind": "resnet50", "width_multiplier": 0.125, "classifier": "linear"}
SHORTCUTS = {f"layer{stage}.0.shortcut" for stage in (1, 2, 3, 4)}


def test_the_reference_decays_the_norms_of_the_four_shortcuts_only() -> None:
    """Of 53 norms the released code's filter finds 49; the corrected one all. Other biases are decayed as ever."""
    recipe = small_recipe(network=RESNET50, rule="complete")
    network, _ = build_wired(recipe.network, recipe.wiring, 0)
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) == 53
    found = {
        undecayed: {name.rpartition(".")[0] for name in undecayed_names(OptimiserConfig(undecayed=undecayed), network)}
        for undecayed in ("nothing", "norms", "norms-off-shortcuts")
    }
    assert found["nothing"] == set()
    assert found["norms"] == norms
    decayed = norms - found["norms-off-shortcuts"]
    assert len(decayed) == 4
    assert all(any(name.startswith(shortcut) for name in decayed) for shortcut in SHORTCUTS)
    names = undecayed_names(OptimiserConfig(undecayed="norms-off-shortcuts"), network)
    assert len(names) == 2 * 49
    assert {name.rpartition(".")[2] for name in names} == {"weight", "bias"}
    assert "classifier.bias" not in names


def test_each_parameter_is_decayed_or_not_as_its_group_says() -> None:
    """With no gradient but the decay's, a step leaves the norms where they are and shrinks everything else.

    In the tiny networks the nodes' norm has no module of its own.
    """
    settings = {"learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.5, "undecayed": "norms"}
    recipe = small_recipe("tiny-discrete", optimiser=settings)
    network, _ = build_wired(recipe.network, recipe.wiring, 0)
    optimiser = make_optimiser(recipe, network)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    kept = {name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])}
    zero = {name for name, value in before.items() if not value.any()}
    norms = {"norm_weight", "norm_bias", "stem.1.weight", "stem.1.bias", "stem.5.weight", "stem.5.bias"}
    assert kept == norms | zero
    for name in set(before) - kept:
        assert torch.allclose(network.get_parameter(name), 0.95 * before[name]), name


def test_what_a_rule_trains_is_decayed() -> None:
    """The thresholds of a soft threshold are, one for each weight; norms are not."""
    recipe = small_recipe(network=RESNET50, wiring={"rule": "soft-threshold"})
    network, graphs = build_wired(recipe.network, recipe.wiring, 0)
    decayed, undecayed = parameter_groups(OptimiserConfig(undecayed="norms"), network)
    assert len(undecayed["params"]) == 2 * 53
    assert undecayed["weight_decay"] == 0.0
    assert len(decayed["params"]) == 2 * len(graphs) + 1  # and the classifier's bias


@pytest.mark.parametrize("undecayed", ["nothing", "norms", "norms-off-shortcuts"])
def test_momentum_comes_back_to_its_parameter(undecayed: str) -> None:
    """An optimiser's state goes into one made anew, each parameter's momentum to the same name.

    State is kept by place, so the order is what finds it again: that of the network, in older checkpoints' one group
    and in each of two.
    """
    recipe = small_recipe(network=RESNET50, rule="complete", optimiser={"undecayed": undecayed})
    momenta = []
    saved = None
    for _ in range(2):
        network = load_class(recipe.network.implementation)(recipe.network)
        optimiser = make_optimiser(recipe, network)
        if saved is None:
            for index, parameter in enumerate(network.parameters()):
                parameter.grad = torch.full_like(parameter, float(index))
            optimiser.param_groups[0]["weight_decay"] = 0.0
            optimiser.step()
            saved = optimiser.state_dict()
        optimiser.load_state_dict(saved)
        momenta.append({n: float(optimiser.state[p]["momentum_buffer"].mean()) for n, p in network.named_parameters()})
        assert len(optimiser.param_groups) == (1 if undecayed == "nothing" else 2)
        places = {id(parameter): place for place, parameter in enumerate(network.parameters())}
        orders = [[places[id(parameter)] for parameter in group["params"]] for group in optimiser.param_groups]
        assert orders == [sorted(order) for order in orders]
    assert momenta[0] == momenta[1]
    assert momenta[0] == {name: float(index) for index, name in enumerate(momenta[0])}
