"""What users of the hooks get wrong is said in one sentence, and does no silent harm."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from support.networks.every_rule import RULES, arguments
from support.networks.sparse_rules import little
from torch import nn

from dnw_core import Run, Wiring, remove_rules, sparsify
from dnw_core.errors import UserError


@pytest.mark.parametrize("value", [0, -1, 4.5, 4.0, True, "4", None, torch.tensor(4)])
@pytest.mark.parametrize("name", ["epochs", "steps_per_epoch"])
def test_a_run_is_made_of_whole_numbers(name: str, value: Any) -> None:
    """A division of batches by accumulated ones is no count of steps; NumPy's whole numbers are some."""
    with pytest.raises(UserError, match=rf"^Run's {name} is .*; it is the number of .* a whole number"):
        Run(**{"epochs": 2, "steps_per_epoch": 2, name: value})
    assert Run(np.int64(2), np.int64(3)).steps == 6


def test_rules_that_came_or_went_after_the_wiring_are_refused() -> None:
    """They would get no hook, or hooks of what is no longer there."""
    made = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 6))
    sparsify(made, "rigl", 0.5, skip="0")
    early = Wiring(made, torch.optim.SGD(made.parameters(), 0.1))
    early.begin(Run(1, 4))
    sparsify(made, "set", 0.5, skip="1")
    with pytest.raises(UserError, match="rules were attached or taken off after this Wiring was made"):
        early.begin(Run(1, 4))
    remove_rules(made)
    for call in (lambda: early.before_step(0), early.edges):
        with pytest.raises(UserError, match=r"the rule of 1\.weight has been taken off; make a new Wiring"):
            call()


@pytest.mark.parametrize("rule", RULES)
def test_sparse_gradients_beside(rule: str) -> None:
    """Those of an embedding are looked at, too: where one is not finite, nothing is decided."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Embedding(5, 6, sparse=True), nn.Linear(6, 8))
    sparsify(made, **arguments(rule))
    wiring = Wiring(made, torch.optim.SGD(made.parameters(), 0.1, momentum=0.9))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        wiring.begin(Run(2, 20))
    decides = rule in ("rigl", "set", "snip")
    step = 0 if rule == "snip" else 10
    for broken in (True, False):
        made.zero_grad()
        made(torch.tensor([1, 1, 2])).square().mean().backward()
        if broken:
            made[0].weight.grad = made[0].weight.grad * float("inf")  # type: ignore[operator]
        before = wiring.edges()
        wiring.before_step(step)
        after = wiring.edges()
        moved = not all(torch.equal(before[name], after[name]) for name in before)
        assert moved == (decides and not broken)


@pytest.mark.parametrize("rule", ["rigl", "set", "sparse-momentum", "ac-dc", "top-kast"])
def test_weights_of_another_optimiser_are_told(rule: str) -> None:
    """Of them the rule would read no momentum, and reset none; not of frozen ones, nor with a Wiring for each part."""
    made = little(rule)
    ours = torch.optim.SGD(made[0].parameters(), 0.1, momentum=0.9)  # type: ignore[index]
    with pytest.warns(UserWarning, match=r"the optimiser does not train 2\.weight, so \w+ finds nothing of it there"):
        Wiring(made, ours).begin(Run(1, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Wiring(made[0], ours).begin(Run(1, 4))  # type: ignore[index]
        made[2].requires_grad_(False)  # type: ignore[index]
        Wiring(made, ours).begin(Run(1, 4))


@pytest.mark.parametrize("cleared", ["no backward pass", "set to zero"])
def test_snip_does_not_choose_by_no_gradient(cleared: str) -> None:
    """All scores zero would keep the first slots of the first weight: it waits for a gradient instead."""
    made = little("snip")
    wiring = Wiring(made, torch.optim.SGD(made.parameters(), 0.1))
    wiring.begin(Run(1, 3))
    if cleared == "set to zero":
        made(torch.ones(2, 10)).sum().backward()
        made.zero_grad(set_to_none=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wiring.before_step(0)
    assert all(edges.all() for edges in wiring.edges().values())
    with pytest.warns(UserWarning, match="until a step has finite gradients that are not zero, and none had yet"):
        wiring.after_epoch(0)
    made(torch.ones(2, 10)).sum().backward()
    wiring.before_step(1)
    assert sum(int(edges.sum()) for edges in wiring.edges().values()) == 56


@pytest.mark.parametrize("rule", RULES)
def test_hooks_that_find_no_gradient_say_so_once(rule: str) -> None:
    """As before backward(), after zero_grad(), or where the optimiser steps within the backward pass."""
    made = little(rule)
    wiring = Wiring(made, torch.optim.SGD(made.parameters(), 0.1, momentum=0.9))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        wiring.begin(Run(1, 4))
        told.clear()
        for step in range(3):
            wiring.before_step(step)
    acts = rule in ("l1-anneal", "set", "rigl", "snip", "ac-dc", "top-kast")
    assert ["before_step finds no gradient" in str(one.message) for one in told] == [True] * acts
