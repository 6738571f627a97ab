"""Sparse momentum: cases worked out by hand, and a plain float64 reference over several epochs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support.networks.double_layers import DoubleLayers

from dnw_core.config.recipe import Recipe
from dnw_core.errors import UserError
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import AttachedRule, Run
from tune_configs import load_tables


def layers_of(sizes: list[tuple[int, int]], epochs: int = 1, **settings: Any) -> DoubleLayers:
    """Layers of these [receivers, senders], four steps an epoch."""
    return DoubleLayers("sparse-momentum", sizes, Run(epochs, steps_per_epoch=4), **settings)


def indices(here: AttachedRule) -> list[int]:
    """Flat indices of the edges, whose count is checked."""
    return here.edges().flatten().nonzero().flatten().tolist()


HALF = {"drop_fraction": 0.5, "last_drop_fraction": 0.5}


def test_an_epochs_end_by_hand() -> None:
    """Means of |momentum| over the edges 3 and 1, so three quarters of the four dropped edges go to the first weight.

    It drops 0.1 and -0.2 (slots 0 and 3); of the free slots these have the largest momentum, and then slot 5: both come
    back as they were, 5 starts at zero. The second drops -1 and 2 and grows slot 6.
    """
    trial = layers_of([(2, 4), (4, 2)], **HALF)
    first, second = trial.attached
    trial.lay_out([0.1, -0.4, 0.3, -0.2], None, [3.0, -3.0, 3.0, 3.0, 1.0, -2.0, 0.0, 0.5])
    trial.lay_out([-4.0, -1.0, 2.0, 3.0], None, [1.5, 0.5, -0.5, 1.5, 0.1, 0.9, -0.95, 0.2], index=1)
    momenta = [here.momentum.clone() for here in trial.attached if here.momentum is not None]
    trial.wiring.after_epoch(0)
    assert indices(first) == [0, 1, 2, 3, 5]
    assert first.weight.flatten().tolist() == [0.1, -0.4, 0.3, -0.2, 0.0, 0.0, 0.0, 0.0]
    assert indices(second) == [0, 3, 6]
    assert second.weight.flatten().tolist() == [-4.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    trial.wiring.edges()
    # plain SGD in the released code: nothing touches the momentum, of dropped edges neither
    for here, before in zip(trial.attached, momenta, strict=True):
        assert here.momentum is not None
        assert torch.equal(here.momentum, before)


def test_ties_by_hand() -> None:
    """Of equal magnitudes the lowest slots stay, of equal momenta the lowest free slots grow."""
    trial = layers_of([(2, 4)], **HALF)
    (here,) = trial.attached
    trial.lay_out([1.0, -1.0, 1.0, -1.0], None, [1.0, 1.0, 0.0, 0.0, 0.5, 2.0, 2.0, -2.0])
    trial.wiring.after_epoch(0)
    assert indices(here) == [0, 1, 5, 6]


def test_a_dense_weight_that_grows_is_capped_and_overflows_by_hand() -> None:
    """9 of 10 slots and more than half of the momentum: it drops a tenth of its 9 edges, rounded up to 1, not half.

    The second drops 2 of 4. Of these 3 the first wants 2.25 but has 2 free slots, so 1 goes to the second.
    """
    trial = layers_of([(2, 5), (5, 2)], **HALF)
    first, second = trial.attached
    trial.lay_out([float(n) for n in range(9, 0, -1)], None, [3.0] * 9 + [0.5])
    trial.lay_out([4.0, 3.0, 2.0, 1.0], None, [1.0] * 4 + [0.1, 0.2, 2.0, 0.3, 0.4, 0.5], index=1)
    trial.wiring.after_epoch(0)
    assert indices(first) == list(range(10))
    assert first.weight.flatten().tolist() == [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert indices(second) == [0, 1, 6]


@pytest.mark.parametrize(
    ("edges", "growing", "dropped"),
    [
        (9, True, 1),  # a tenth of 9
        (9, False, 5),  # not growing: half, rounded up
        (8, True, 4),  # 80 % is not more than 80 %
        (10, True, 0),  # full
        (10, False, 5),
        (3, True, 2),
        (0, True, 0),
    ],
)
def test_dropped_edges_by_hand(edges: int, growing: bool, dropped: int) -> None:
    """Of 10 slots, r = 0.5."""
    rule = layers_of([(2, 5)], **HALF).rule
    rule.present_count.fill_(edges)
    assert rule.dropped_edges(0, growing) == dropped


def test_the_drop_fraction_is_half_a_cosine() -> None:
    """0.5 before the first step, 0.2525 half-way, 0.005 after the last; by the plain formula in between."""
    rule = layers_of([(2, 5)], epochs=90).rule
    assert rule.drop_fraction(0) == 0.5
    assert rule.drop_fraction(45) == pytest.approx(0.2525, rel=1e-12)
    assert rule.drop_fraction(90) == pytest.approx(0.005, rel=1e-12)
    assert rule.drop_fraction(30) == pytest.approx(0.005 + 0.495 * 0.75, rel=1e-12)  # cos 60 degrees is a half


def test_every_slot_has_momentum_and_no_slot_without_edge_a_weight() -> None:
    """After a step the weight is zero where there is no edge, from the start on; the momentum there is not."""
    trial = layers_of([(5, 4), (3, 5)], density=0.3)
    for here in trial.attached:
        assert not here.weight.data[~here.edges()].any()
    trial.network(torch.randn(8, 4, dtype=torch.float64)).square().sum().backward()
    trial.optimiser.step()
    trial.wiring.after_step(0)
    for here in trial.attached:
        assert not here.weight.data[~here.edges()].any()
        assert bool(here.weight.data[here.edges()].all())
    momentum = trial.attached[1].momentum
    assert momentum is not None
    assert bool(momentum[~trial.attached[1].edges()].any())


def test_what_has_no_momentum_keeps_its_edges() -> None:
    """One weight without momentum takes no part; where all momentum is zero, or some not finite, nothing moves."""
    trial = layers_of([(2, 4), (4, 2), (2, 4)], **HALF)
    first, second, third = trial.attached
    kept = indices(third)
    trial.lay_out([1.0, 2.0, 3.0, 4.0], None, [0.0] * 8)
    trial.lay_out([1.0, 2.0, 3.0, 4.0], None, [0.0] * 8, index=1)
    trial.wiring.after_epoch(0)
    assert [indices(first), indices(second), indices(third)] == [[0, 1, 2, 3], [0, 1, 2, 3], kept]
    trial.lay_out([1.0, 2.0, 3.0, 4.0], None, [math.nan] * 8, index=1)
    trial.wiring.after_epoch(0)
    assert [indices(first), indices(second), indices(third)] == [[0, 1, 2, 3], [0, 1, 2, 3], kept]
    # all that the two drop goes to the second, which has room for it
    trial.lay_out([1.0, 2.0, 3.0, 4.0], None, [1.0] * 8, index=1)
    trial.wiring.after_epoch(0)
    assert [indices(first), indices(second), indices(third)] == [[2, 3], [0, 1, 2, 3, 4, 5], kept]
    trial.wiring.edges()


def test_an_optimiser_without_momentum_is_refused() -> None:
    """Else the rule would quietly be a fixed random mask."""
    network = layers_of([(5, 4)]).network
    wiring = Wiring(network, torch.optim.SGD(network.parameters(), lr=0.1))
    with pytest.raises(UserError, match="needs an optimiser that keeps a momentum: SGD with momentum above 0"):
        wiring.begin(Run(1, 1))
    network(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    with pytest.raises(UserError, match="needs an optimiser that keeps a momentum"):
        wiring.before_step(0)


def test_unusable_slots_never_become_edges() -> None:
    """Edges are drawn and grown among the slots that the forward pass reads; too few of them are refused."""
    usable = torch.zeros(4, 4, dtype=torch.bool)
    usable[:, :2] = True
    trial = DoubleLayers("sparse-momentum", [(4, 4)], Run(8, 1), usable=usable, density=0.25, **HALF)
    before = trial.attached[0].edges()
    for epoch in range(8):
        trial.network(torch.randn(4, 4, dtype=torch.float64)).square().sum().backward()
        trial.optimiser.step()
        trial.wiring.after_step(epoch)
        trial.wiring.after_epoch(epoch)
        assert not (trial.attached[0].edges() & ~usable).any()
    assert not torch.equal(before, trial.attached[0].edges())
    with pytest.raises(ValueError, match="12 edges are to be drawn from 8 slots"):
        DoubleLayers("sparse-momentum", [(4, 4)], Run(8, 1), usable=usable, density=0.75)


def test_a_recipe_without_momentum_is_refused() -> None:
    """Before anything is trained, with what would be right."""
    recipe = load_tables()["sparse-cifar"].rows["snfs-10"].recipe_at("paper")
    values = recipe.model_dump()
    values["optimiser"]["momentum"] = 0.0
    with pytest.raises(ValidationError, match=r"grows edges by momentum; set optimiser\.momentum above 0"):
        Recipe.model_validate(values)
