"""Edge-popup: the scores' gradient, that frozen weights never move, and what is drawn at the start."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from support.references.prescribed import SHAPES, Prescribed, assert_close, drawn, gradients_of, numbers, sgd, top
from torch import nn
from torch.nn import functional as F

from dnw_core.config.later_rules import EdgePopupConfig
from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.rules.edge_popup import EdgePopup
from dnw_core.wiring.slots import Slots


def config(**settings: Any) -> EdgePopupConfig:
    """Settings with half of the slots kept."""
    return EdgePopupConfig(rule="edge-popup", **{"density": 0.5, **settings})


def rule_of(trial: Prescribed, index: int = 0) -> EdgePopup:
    """The rule of one weight."""
    rule = trial.attached[index].rule
    assert isinstance(rule, EdgePopup)
    return rule


def test_by_hand() -> None:
    """The two largest |score| are edges; every score's gradient is g * w * sign(score), edge or not."""
    trial = Prescribed(config(), weights=[[[1.0, -2.0, 3.0, 4.0]]])
    with torch.no_grad():
        rule_of(trial).scores.copy_(torch.tensor([[0.1, -0.4, 0.2, -0.3]]))
    assert trial.effective()[0].tolist() == [[0.0, -2.0, 0.0, 4.0]]
    trial.backward([torch.tensor([[10.0, 10.0, 1.0, 1.0]])])
    assert rule_of(trial).scores.grad.tolist() == [[10.0, 20.0, 3.0, -4.0]]  # type: ignore[union-attr]
    assert trial.attached[0].gradient is None


def test_a_score_learns_towards_the_edges_that_help() -> None:
    """Of four equal slots with scores of either sign, those whose weight lowers the loss end as the edges."""
    trial = Prescribed(config(), weights=[[[1.0, 1.0, -1.0, -1.0]]])
    with torch.no_grad():
        rule_of(trial).scores.copy_(torch.tensor([[0.5, -0.5, 0.51, -0.51]]))
    assert trial.attached[0].edges().tolist() == [[False, False, True, True]]
    # the loss is the sum of the effective weights here turned round: positive ones help
    trial.step(0, [torch.full((1, 4), -0.1)])
    assert trial.attached[0].edges().tolist() == [[True, True, False, False]]


def test_against_a_plain_run_in_float64() -> None:
    """Scores and edges over some steps; scores have momentum and decay like any parameter."""
    trial = Prescribed(config())
    weights = [numbers(drawn(shape, index)) for index, shape in enumerate(SHAPES)]
    scores = [numbers(rule_of(trial, index).scores) for index in range(2)]
    momenta = [np.zeros(shape) for shape in SHAPES]
    first = [top(score, score.size // 2) for score in scores]
    for step in range(8):
        trial.step(step, gradients_of(step))
        for index, gradient in enumerate(gradients_of(step)):
            sgd(scores[index], momenta[index], numbers(gradient) * weights[index] * np.sign(scores[index]))
            mask = top(scores[index], scores[index].size // 2)
            assert np.array_equal(trial.attached[index].edges().numpy(), mask)
            assert_close(rule_of(trial, index).scores, scores[index])
            assert_close(trial.effective()[index], weights[index] * mask)
    assert not np.array_equal(mask, first[1])


@pytest.mark.parametrize("frozen_weights", ["drawn", "signed-constant"])
def test_an_optimiser_never_moves_the_weight(frozen_weights: str) -> None:
    """A plain optimiser over all parameters, with momentum and decay: the weight keeps its bits, all else learns."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(54, 3))
    for index in (0, 2):
        shape = tuple(network[index].weight.shape)  # type: ignore[union-attr, arg-type]
        attach(network[index], "weight", build_rule(config(frozen_weights=frozen_weights), Slots(shape), 0, str(index)))  # type: ignore[arg-type]
    state = copy.deepcopy(network.state_dict())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    images, labels = drawn((8, 2, 5, 5), 1), torch.arange(8) % 3
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]) == name.endswith(".original"), name
    assert [here.weight.requires_grad for here in attached_rules(copy.deepcopy(network))] == [False, False]


def test_signed_constant_weights() -> None:
    """sqrt(2 / fan-in) with the drawn signs, whatever the density; a weight of exactly zero counts as positive."""
    constant = math.sqrt(2 / 4)
    for density in (0.25, 0.75):
        trial = Prescribed(
            config(density=density, frozen_weights="signed-constant"), weights=[[[0.3, -7.0, 0.0, -0.1]]]
        )
        expected = torch.tensor([[constant, -constant, constant, -constant]])
        assert torch.equal(trial.attached[0].weight, expected)
        assert set(trial.effective()[0].abs().unique().tolist()) == {0.0, float(expected[0, 0])}
    layer = nn.Conv2d(8, 5, 3)
    attach(layer, "weight", build_rule(config(frozen_weights="signed-constant"), Slots((5, 8, 3, 3)), 0, "w"))
    (here,) = attached_rules(layer)
    assert here.weight.abs().unique().tolist() == [pytest.approx(1 / 6)]


def test_scores_are_drawn_like_torchs_convolutions() -> None:
    """Uniform in +-1/sqrt(fan-in), by the seed and the weight's name alone."""

    def scores(seed: int, name: str = "w") -> torch.Tensor:
        rule = build_rule(config(), Slots((64, 16, 3, 3)), seed, name)
        assert isinstance(rule, EdgePopup)
        return rule.scores.detach()

    assert torch.equal(scores(0), scores(0))
    assert not torch.equal(scores(0), scores(1))
    assert not torch.equal(scores(0), scores(0, "v"))
    assert 0.99 / 12 < float(scores(0).abs().max()) <= 1 / 12
    assert float(scores(0).std()) == pytest.approx(1 / 12 / math.sqrt(3), rel=0.02)
    assert abs(float(scores(0).mean())) < 0.002


def test_slots_that_are_not_read_are_no_edges() -> None:
    """Whatever their score."""
    usable = torch.tensor([[True, False], [True, False]])
    trial = Prescribed(config(), weights=[[[1.0, 9.0], [2.0, 3.0]]], usable=usable)
    assert torch.equal(trial.attached[0].edges(), usable)
    with pytest.raises(ValueError, match="3 edges are to be kept, but only 2 slots are usable"):
        Prescribed(config(density=0.75), weights=[[[1.0, 9.0], [2.0, 3.0]]], usable=usable)
