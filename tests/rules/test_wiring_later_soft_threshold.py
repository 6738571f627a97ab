"""STR: the effective weight and both gradients, and that decay alone brings the threshold up."""

from __future__ import annotations

import numpy as np
import torch
from support.references.prescribed import (
    DECAY,
    RATE,
    SHAPES,
    Prescribed,
    assert_close,
    drawn,
    gradients_of,
    numbers,
    sgd,
)

from dnw_core.config.later_rules import SoftThresholdConfig
from dnw_core.wiring.rules.soft_threshold import SoftThresholdReparameterization


def rule_of(trial: Prescribed, index: int = 0) -> SoftThresholdReparameterization:
    """The rule of one weight."""
    rule = trial.attached[index].rule
    assert isinstance(rule, SoftThresholdReparameterization)
    return rule


def config(initial_threshold: float) -> SoftThresholdConfig:
    """Settings with this s at the start."""
    return SoftThresholdConfig(rule="soft-threshold", initial_threshold=initial_threshold)


def test_by_hand() -> None:
    """s = 0, so t = 1/2 and its slope 1/4; a weight right at the threshold is no edge."""
    trial = Prescribed(config(0.0), weights=[[[1.0, -0.25, -2.0, 0.5]]])
    assert trial.effective()[0].tolist() == [[0.5, 0.0, -1.5, 0.0]]
    assert trial.attached[0].edges().tolist() == [[True, False, True, False]]
    trial.backward([torch.tensor([[1.0, 10.0, 100.0, 1000.0]])])
    assert trial.attached[0].weight.grad is not None
    assert trial.attached[0].weight.grad.tolist() == [[1.0, 0.0, 100.0, 0.0]]
    assert float(rule_of(trial).s.grad) == -0.25 * (1 - 100)  # type: ignore[arg-type]


def test_gradients_are_those_of_the_formula() -> None:
    """Against torch's own differentiation of it, in float64."""
    weight = drawn((7, 6), 3).double().requires_grad_()
    s = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    incoming = drawn((7, 6), 4).double()
    (torch.sign(weight) * torch.relu(weight.abs() - torch.sigmoid(s))).backward(incoming)
    trial = Prescribed(config(-0.7), weights=[weight.tolist()])
    trial.backward([incoming])
    assert weight.grad is not None
    assert s.grad is not None
    assert_close(trial.attached[0].weight.grad, numbers(weight.grad))  # type: ignore[arg-type]
    assert_close(rule_of(trial).s.grad, numbers(s.grad))  # type: ignore[arg-type]
    assert 0 < int(trial.attached[0].edges().sum()) < 42


def test_far_below_zero_decay_alone_moves_the_threshold() -> None:
    """At the published start sigmoid and its slope are 0: the network is dense, its weights untouched."""
    trial = Prescribed(config(-3200.0))
    assert torch.equal(trial.effective()[0], trial.attached[0].weight)
    trial.step(0, gradients_of(0))
    assert rule_of(trial).s.item() == -3200.0 * (1 - RATE * DECAY)
    assert float(trial.attached[0].edges().sum()) == 30


def test_against_a_plain_run_in_float64() -> None:
    """Weights, thresholds and edges over some steps; each weight has its own s, which the optimiser trains."""
    trial = Prescribed(config(-2.0))
    weights = [numbers(drawn(shape, index)) for index, shape in enumerate(SHAPES)]
    momenta = [np.zeros(shape) for shape in SHAPES]
    s, of_s = [np.array(-2.0), np.array(-2.0)], [np.array(0.0), np.array(0.0)]
    counts = set()
    for step in range(20):
        trial.step(step, gradients_of(step))
        for index, gradient in enumerate(gradients_of(step)):
            t = 1 / (1 + np.exp(-s[index]))
            reached = numbers(gradient) * (np.abs(weights[index]) > t)
            slope = -t * (1 - t) * (np.sign(weights[index]) * reached).sum()
            sgd(weights[index], momenta[index], reached)
            sgd(s[index], of_s[index], slope)
        for index, here in enumerate(trial.attached):
            t = 1 / (1 + np.exp(-s[index]))
            expected = np.sign(weights[index]) * np.maximum(np.abs(weights[index]) - t, 0)
            assert_close(rule_of(trial, index).s, s[index])
            assert_close(trial.effective()[index], expected)
            assert torch.equal(here.edges(), trial.effective()[index] != 0)
            counts.add(int(here.edges().sum()))
    assert len(counts) > 3
    assert abs(rule_of(trial, 0).s.item() - rule_of(trial, 1).s.item()) > 0.01


def test_the_threshold_is_a_parameter_and_no_count_is_promised() -> None:
    """It is found where an optimiser looks for it; the number of edges comes out of training."""
    trial = Prescribed(config(-2.0))
    names = {name for name, _ in trial.network.named_parameters()}
    assert "0.parametrizations.weight.0.s" in names
    assert trial.attached[0].rule.promised_edges is None
    trial.wiring.edges()


def test_nothing_is_kept_for_the_backward_pass_but_the_parameters() -> None:
    """Memory: what autograd holds on to is the weight and s themselves."""
    trial = Prescribed(config(-2.0))
    held: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor.data_ptr()), lambda _: None):
        rule_of(trial).forward(trial.attached[0].weight)
    assert held == [trial.attached[0].weight.data_ptr(), rule_of(trial).s.data_ptr()]
