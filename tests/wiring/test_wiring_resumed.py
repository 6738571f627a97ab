"""Another state is loaded into a network that trains: nothing of the moment before stays behind, or it is refused."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from support.networks.every_rule import RULES, arguments
from support.networks.sparse_rules import Loop, little
from torch import nn

from dnw_core import Run, Wiring, sparsify
from dnw_core.errors import UserError


def sgd(made: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum and decay."""
    return torch.optim.SGD(made.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-2)


@pytest.mark.parametrize("given_up", [False, True], ids=["between two steps", "in the middle of one"])
@pytest.mark.parametrize("rule", RULES)
def test_rolling_back_is_as_if_nothing_had_been(rule: str, given_up: bool) -> None:
    """As after a loss that is not finite: an earlier state is loaded, without ``begin``, and trained on."""
    made = little(rule)
    loop = Loop(made, sgd(made), epochs=6)
    found = []
    loop.train(8)
    state, kept = copy.deepcopy(made.state_dict()), copy.deepcopy(loop.optimiser.state_dict())
    for _ in range(2):
        loop.train(10)
        found.append(copy.deepcopy(made.state_dict()))
        if given_up:
            loop.backward()
            loop.wiring.before_step(loop.done)
        made.load_state_dict(state)
        loop.optimiser.load_state_dict(copy.deepcopy(kept))
        loop.done = 8
    assert not all(torch.equal(found[0][key], state[key]) for key in state)
    for key in state:
        assert torch.equal(found[0][key], found[1][key]), key


def test_a_step_that_is_given_up_leaves_top_kast_nothing() -> None:
    """Weights that somebody moves before the next step are not taken back to where they were."""
    made = little("top-kast")
    loop = Loop(made, sgd(made))
    loop.step()
    loop.backward()
    loop.wiring.before_step(loop.done)  # and no step follows
    weight = loop.wiring.attached[0].weight
    with torch.no_grad():
        weight.mul_(0.5)
    expected = weight.detach().clone()
    outside = ~loop.wiring.attached[0].rule.backward_mask  # type: ignore[operator]
    loop.done += 1
    loop.step()
    torch.testing.assert_close(weight[outside], expected[outside])


@pytest.mark.parametrize("rule", ["sparse-momentum", "snip", "ac-dc"])
def test_edges_of_another_density_are_refused_at_begin(rule: str) -> None:
    """Where only all weights together have a promise, no single mask shows that it is of another network."""
    donor = little(rule)
    loop = Loop(donor, sgd(donor))
    loop.train(12)
    thinner = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4))
    sparsify(thinner, **{**arguments(rule), "density": 0.125})
    thinner.load_state_dict(donor.state_dict())
    with pytest.raises(UserError, match=r"have 56 edges in all, and 28 are promised; was a state loaded of a network"):
        Wiring(thinner, sgd(thinner)).begin(Run(3, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Wiring(donor, loop.optimiser).begin(Run(3, 4))
