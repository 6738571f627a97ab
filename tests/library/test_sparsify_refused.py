"""What ``sparsify`` refuses: one sentence each, and nothing is attached."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from dnw_core import sparsify
from dnw_core.config.rule_base import SparseConfig
from dnw_core.config.rules import LotteryTicketConfig, TopEdgesConfig
from dnw_core.errors import UserError
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import WiringRule


def network() -> nn.Module:
    """Three layers, a norm and an embedding."""
    return nn.ModuleDict(
        {"stem": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "words": nn.Embedding(6, 5), "head": nn.Linear(5, 6)}
    )


class Nameless(WiringRule):
    """A rule that does not say what its settings are."""

    def __init__(self, config, slots, generator) -> None:  # type: ignore[no-untyped-def]
        raise AssertionError

    edges = forward = WiringRule.forward


class Unsettled(SparseConfig):
    """Settings of no registered rule."""


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rule": "rigle", "density": 0.5}, "there is no wiring rule 'rigle'; did you mean 'rigl'? (known: "),
    ({"rule": "top-edges"}, "rule 'top-edges' needs a density: the fraction of the weights that is kept"),
    ({"rule": "soft-threshold", "density": 0.5}, "rule 'soft-threshold' takes no density; leave it out"),
    (
        {"rule": "rigl", "density": 0.5, "update": 3},
        "rule 'rigl' has no setting 'update'; did you mean 'updates'? (its settings: "
        "drop_fraction, updates, updates_end)",
    ),
    ({"rule": "complete", "factor": 3}, "rule 'complete' has no setting 'factor' (it has none)"),
    ({"rule": "rigl", "density": 0.5, "width": 0.5}, "rule 'rigl' has no setting 'width'"),
    (
        {"rule": "rigl", "density": 0.5, "updates": 0},
        "rule 'rigl' refuses updates=0: Input should be greater than 0",
    ),
    ({"rule": "top-kast", "density": 0.5}, "rule 'top-kast' needs the setting 'backward_density'"),
    ({"rule": "top-kast", "density": 0.5, "backward_density": 0.1}, "rule 'top-kast' refuses its settings: backward"),
    ({"rule": "rigl", "density": 0.5, "layers": "erc"}, "layers is 'erc'; it is one of: uniform, erk"),
    ({"rule": "top-edges", "density": 0.5, "layers": "erk"}, "rule 'top-edges' has no layers 'erk'; rules that have: "),
    ({"rule": "lottery-ticket", "density": 0.5}, "rule 'lottery-ticket' starts from a finished trial of another row"),
    ({"rule": LotteryTicketConfig(rule="lottery-ticket", density=0.5)}, "rule 'lottery-ticket' starts from a finished"),
    (
        {"rule": TopEdgesConfig(rule="top-edges", density=0.5), "density": 0.5},
        "the settings of rule 'top-edges' are comp",
    ),
    ({"rule": Unsettled(density=0.5)}, "Unsettled are not the settings of a registered rule; give the rule"),
    ({"rule": Nameless, "density": 0.5}, "Nameless does not say what its settings are; its constructor is (self, "),
    ({"rule": nn.Linear, "density": 0.5}, "it is a registered name, a settings object or a subclass of WiringRule"),
    (
        {"rule": "rigl", "density": 0.5, "skip": ["haed"]},
        "skip has 'haed', which matches no prunable weight; did you mean 'head'?",
    ),
    ({"rule": "rigl", "density": 0.5, "skip": ["norm"]}, "skip has 'norm', which matches no prunable weight"),
    ({"rule": "rigl", "density": 0.5, "skip": "*"}, "skip leaves no prunable weight of ModuleDict: all 2 are skipped"),
    ({"rule": "constant-fan", "factor": 30}, "stem.weight: factor is 30, which leaves no partner among 27"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], sentence: str) -> None:
    """Rules, densities, settings and patterns."""
    refused(network(), sentence, **arguments)


@pytest.mark.parametrize("density", [0, 0.0, -0.1, 1.01, 10, float("nan"), True, "0.1"])
def test_densities_outside_of_zero_to_one(density: Any) -> None:
    """The sentence says what a density is."""
    sentence = f"density is {density!r}; it is the fraction of the weights that is kept, above 0 and at most 1"
    refused(network(), sentence, rule="rigl", density=density)


def test_networks_that_do_not_fit() -> None:
    """No prunable weight, tied weights, another parametrisation, a weight that is none, a weight without values."""
    refused(nn.ReLU(), "ReLU has no prunable weight: no convolution or linear layer is in it")
    tied = network()
    tied["head"].weight = tied["words"].weight  # type: ignore[index]
    refused(tied, "words.weight and head.weight are one shared weight; untie them, or skip every layer that holds it")
    assert len(sparsify(tied, "set", 0.5, skip="head").rows) == 1
    normed = network()
    weight_norm(normed["head"])  # type: ignore[index]
    refused(normed, "head.weight is parametrised already (_WeightNorm); undo that or skip it")
    computed = network()
    del computed["head"].weight  # type: ignore[index]
    computed["head"].weight = torch.ones(6, 5)  # type: ignore[index]
    refused(computed, "head.weight is not a parameter")
    refused(nn.Sequential(nn.LazyLinear(3)), "0.weight has no shape before the network has seen a batch")


def test_a_second_rule_on_a_weight() -> None:
    """The weight and its rule are named, the first rule stays, and others may still get one."""
    twice = network()
    sparsify(twice, "set", 0.5, skip="stem")
    with pytest.raises(
        UserError, match=r"^head\.weight has a wiring rule already \(SparseEvolutionaryTraining\); take it off"
    ):
        sparsify(twice, "rigl", 0.5)
    assert [here.name for here in attached_rules(twice)] == ["head.weight"]
    assert len(sparsify(twice, "rigl", 0.5, skip="head").rows) == 2


def refused(made: nn.Module, sentence: str, **arguments: Any) -> None:
    """Check that the call is refused with this sentence and changes nothing."""
    before = list(made.state_dict())
    with pytest.raises(UserError) as caught:
        sparsify(made, **(arguments or {"rule": "rigl", "density": 0.5}))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(made.state_dict()) == before
    assert not list(attached_rules(made))
