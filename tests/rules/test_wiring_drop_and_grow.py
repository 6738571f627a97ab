"""SET and RigL: when edges move, which, what becomes of weight and momentum; RigL against a plain float64 reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.networks.double_layers import SIZES, DoubleLayers

from dnw_core.wiring.rule import Run

RULES = ["set", "rigl"]


@pytest.mark.parametrize(
    ("steps", "settings", "moments"),
    [
        (32_000, {}, list(range(100, 24_001, 100))),  # RigL's own: every 100 steps up to three quarters
        (400, {"updates": 5, "updates_end": 0.5}, [40, 80, 120, 160, 200]),
        (10, {"updates": 2, "updates_end": 0.75}, [4]),  # 3.75; 7.5 would be the end itself, where nothing is dropped
        (100, {"updates": 4, "updates_end": 0.9}, [23, 45, 68, 90]),  # 22.5, 45, 67.5, 90
        (100, {}, [11, 22, 33, 43, 54, 65, 75]),  # one in ten steps at most: 7 of them up to 75
        (10, {}, [4]),  # two at least: 3.75 and the end itself
        (2, {}, [1]),  # the shortest of runs
        (1, {}, []),
        (20, {"updates_end": 0.0}, []),
    ],
)
def test_the_moments_by_hand(steps: int, settings: dict[str, Any], moments: list[int]) -> None:
    """Evenly spaced over the share of the run, never at step 0; the number of epochs does not matter."""
    trial = DoubleLayers("rigl", [(2, 2)], Run(1, steps), **settings)
    assert [step for step in range(steps) if trial.rule.is_update(step)] == moments
    trial = DoubleLayers("rigl", [(2, 2)], Run(steps, 1), **settings)
    assert [step for step in range(steps) if trial.rule.is_update(step)] == moments


def test_the_fraction_by_hand() -> None:
    """0.3 at first, 0.15 half-way to the end of the share, 0 there."""
    rule = DoubleLayers("set", [(2, 2)], Run(10, 400)).rule
    assert rule.fraction_at(0) == 0.3
    assert rule.fraction_at(1000) == pytest.approx(0.225, rel=1e-12)  # cos 60 degrees is a half
    assert rule.fraction_at(1500) == pytest.approx(0.15, rel=1e-12)
    assert rule.fraction_at(3000) == 0.0


def test_rigl_by_hand() -> None:
    """Half of four edges go: 0.1 and -0.2 in slots 0 and 3, the smallest whatever their signs.

    Of the free slots 0, 3, 4, 5, 6, 7 the gradients 6 and -5 in 3 and 5 are the largest (9 is that of slot 1, an edge).
    Slot 3 stays as it was, 5 is new. There is no gradient step; momentum is left only where edges stayed.
    """
    # half-way the fraction is half of drop_fraction
    trial = DoubleLayers("rigl", [(2, 4)], Run(1, 4), drop_fraction=1.0, updates=2, updates_end=1.0)
    here = trial.lay_out(
        [0.1, -4.0, 3.0, -0.2, 0.0, 0.0, 0.0, 0.0],
        [1.0, 9.0, 0.0, 6.0, 2.0, -5.0, 3.0, 4.0],
        [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0],
    )
    trial.wiring.before_step(2)
    assert here.edges().flatten().nonzero().flatten().tolist() == [1, 2, 3, 5]
    assert here.weight.flatten().tolist() == [0.0, -4.0, 3.0, -0.2, 0.0, 0.0, 0.0, 0.0]
    assert here.momentum is not None
    assert here.momentum.flatten().tolist() == [0.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]
    assert here.gradient is None
    trial.optimiser.step()
    assert here.weight.flatten().tolist() == [0.0, -4.0, 3.0, -0.2, 0.0, 0.0, 0.0, 0.0]


def test_rigl_between_updates_by_hand() -> None:
    """Only edges keep their gradient; equal magnitudes and gradients: the lowest slots stay, the lowest grow."""
    trial = DoubleLayers("rigl", [(2, 4)], Run(1, 4), drop_fraction=1.0, updates=2, updates_end=1.0)
    values = [1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0]
    here = trial.lay_out(values, [1.0, 2.0, 3.0, 4.0, 7.0, -7.0, 7.0, 7.0], [0.0] * 8)
    trial.wiring.before_step(1)
    assert here.gradient is not None
    assert here.gradient.flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]
    here = trial.lay_out(values, [1.0, 2.0, 3.0, 4.0, 7.0, -7.0, 7.0, 7.0], [0.0] * 8)
    trial.wiring.before_step(2)
    assert here.edges().flatten().nonzero().flatten().tolist() == [0, 1, 4, 5]


def test_a_new_edge_starts_at_zero_whatever_stood_there() -> None:
    """A weight that was loaded after the rule was attached is not read where there is no edge, nor later."""
    trial = DoubleLayers("rigl", [(1, 4)], Run(1, 4), drop_fraction=1.0, updates=2, updates_end=1.0)
    here = trial.lay_out([1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0], [1.0, 1.0, 1.0, 1.0])
    here.weight.data[0, 2:] = 7.0
    trial.wiring.before_step(2)
    assert here.edges().tolist() == [[False, True, False, True]]
    assert here.weight.tolist() == [[0.0, 2.0, 0.0, 0.0]]
    assert here.momentum is not None
    assert here.momentum.tolist() == [[0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("layers", ["uniform", "erk"])
def test_rigl_against_a_plain_reference(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training written out with plain masks, sorts and SGD: the same edges and weights over 40 steps."""
    monkeypatch.setattr("dnw_core.wiring.rules.drop_and_grow.LEAST_STEPS", 2)
    run = Run(4, 10)
    trial = DoubleLayers("rigl", SIZES, run, layers=layers, updates=9, density=0.4)
    weights = [here.weight.detach().clone() for here in trial.attached]
    masks = [here.edges().clone() for here in trial.attached]
    momenta = [torch.zeros_like(weight) for weight in weights]
    due = {math.ceil(number * 30 / 9) for number in range(1, 10)}
    moved = 0
    for step in range(run.steps):
        trial.train(step, step + 1)
        gradients = trial.gradients(weights, masks, step)
        fraction = 0.15 * (1 + math.cos(math.pi * step / 30)) if step in due else 0.0
        for index, gradient in enumerate(gradients):
            weight, mask, momentum = weights[index], masks[index], momenta[index]
            dropped = math.floor(fraction * int(mask.sum()))
            if dropped == 0:
                momentum.mul_(0.9).add_((gradient + 0.01 * weight) * mask)
                weight.sub_(0.1 * momentum)
                continue
            size, slope = weight.abs().flatten().tolist(), gradient.abs().flatten().tolist()
            edges = sorted(mask.flatten().nonzero().flatten().tolist(), key=lambda i, size=size: (-size[i], i))
            stays = edges[: len(edges) - dropped]
            free = sorted(set(range(len(size))) - set(stays), key=lambda i, slope=slope: (-slope[i], i))
            now = torch.zeros(len(size), dtype=torch.bool)
            now[stays + free[:dropped]] = True
            now = now.view_as(mask)
            moved += int((now & ~mask).sum())
            weight.mul_(now & mask)
            momentum.mul_(now & mask)
            masks[index] = now
        for here, weight, mask, momentum in zip(trial.attached, weights, masks, momenta, strict=True):
            assert torch.equal(here.edges(), mask)
            assert torch.allclose(here.weight.data, weight, rtol=1e-10, atol=1e-13)
            assert here.momentum is None or torch.allclose(here.momentum, momentum, rtol=1e-10, atol=1e-13)
    assert moved > 20


@pytest.mark.parametrize("rule", RULES)
def test_only_edges_have_weight_and_momentum_and_each_weight_keeps_its_count(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of a run, decay included; edges move to where there was none before."""
    monkeypatch.setattr("dnw_core.wiring.rules.drop_and_grow.LEAST_STEPS", 2)
    trial = DoubleLayers(rule, SIZES, Run(3, 10), updates=7, density=0.4)
    begun = [here.edges().clone() for here in trial.attached]
    for step in range(30):
        trial.train(step, step + 1)
        for here in trial.attached:
            own = here.edges()
            assert int(own.sum()) == here.rule.kept_edges == math.ceil(0.4 * own.numel())
            assert not here.weight.data[~own].any()
            assert here.momentum is None or not here.momentum[~own].any()
    assert all(int((here.edges() & ~own).sum()) > 0 for here, own in zip(trial.attached, begun, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_the_shortest_run_moves_edges_once(rule: str) -> None:
    """Two steps in all, as at smoke scale: the second moves edges, of weights that drop a whole one."""
    trial = DoubleLayers(rule, [(40, 4), (2, 40)], Run(1, 2))
    begun = trial.attached[0].edges().clone()
    trial.train(0, 1)
    assert torch.equal(trial.attached[0].edges(), begun)
    trial.train(1, 2)
    # 0.15 (1 + cos 120 degrees) of 80 edges are 6
    assert 0 < int((trial.attached[0].edges() & ~begun).sum()) <= 6


@pytest.mark.parametrize("rule", RULES)
def test_a_full_weight_stays_full_and_loses_nothing(rule: str) -> None:
    """As Erdős–Rényi-kernel makes small ones: every edge that is dropped is chosen again at once."""
    trial = DoubleLayers(rule, [(2, 4)], Run(1, 4), density=1.0, drop_fraction=1.0, updates=2, updates_end=1.0)
    values = [float(n) for n in range(1, 9)]
    here = trial.lay_out(values, values, values)
    trial.wiring.before_step(2)
    assert int(here.edges().sum()) == 8
    assert here.weight.flatten().tolist() == values
    assert here.momentum is not None
    assert here.momentum.flatten().tolist() == values


@pytest.mark.parametrize("rule", RULES)
def test_unusable_slots_never_become_edges(rule: str) -> None:
    """Edges are drawn and grown among the slots that the forward pass reads; too few of them are refused."""
    usable = torch.zeros(8, 4, dtype=torch.bool)
    usable[:, :2] = True
    trial = DoubleLayers(rule, [(8, 4)], Run(1, 8), usable=usable, density=0.25, drop_fraction=1.0, updates=8)
    begun = trial.attached[0].edges().clone()
    for step in range(8):
        trial.optimiser.zero_grad()
        (trial.network(torch.ones(1, 4, dtype=torch.float64)) - 1).square().sum().backward()
        trial.wiring.before_step(step)
        trial.optimiser.step()
        assert not (trial.attached[0].edges() & ~usable).any()
    assert not torch.equal(trial.attached[0].edges(), begun)
    with pytest.raises(ValueError, match="24 edges are to be drawn from 16 slots"):
        DoubleLayers(rule, [(8, 4)], Run(1, 8), usable=usable, density=0.75)


@pytest.mark.parametrize("rule", RULES)
def test_edges_move_once_in_a_step_of_several_closures(rule: str) -> None:
    """LBFGS calls ``before_step`` several times with one step: the later calls mask the gradient and move nothing."""
    trial = DoubleLayers(rule, [(8, 8)], Run(2, 20))
    here, found = trial.attached[0], []
    before = here.edges()
    for _ in range(3):
        here.weight.grad = torch.randn(8, 8, dtype=torch.float64)
        trial.wiring.before_step(10)
        found.append(here.edges())
    assert not torch.equal(before, found[0])
    assert all(torch.equal(found[0], later) for later in found[1:])
    assert here.weight.grad is not None
    assert not here.weight.grad[~found[0]].any()
