"""Sparse networks under torch.compile, torch.export and as ONNX files."""

from __future__ import annotations

import copy

import pytest
import torch
from support.networks.every_rule import RULES
from support.networks.sparse_rules import little
from support.networks.sparsify_workers import batch, network, train
from torch import nn

from dnw_core import effective_weights, remove_rules, sparsify
from dnw_core.wiring.selection import CANDIDATES_FROM, largest_magnitudes


def coarse() -> nn.Module:
    """A network with a weight that is large enough for the short cut of eager mode, of few distinct values."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(300, 122), nn.ReLU(), nn.Linear(122, 10))
    assert made[0].weight.numel() >= CANDIDATES_FROM  # type: ignore[operator, union-attr]
    with torch.no_grad():
        for layer in (made[0], made[2]):
            layer.weight.mul_(60).round_().div_(60)  # type: ignore[operator, union-attr]
    return made


def test_top_edges_is_one_graph_with_the_same_edges() -> None:
    """Compiled without a break: the same output, edges (ties included) and gradients, in training and evaluation."""
    eager = coarse()
    sparsify(eager, "top-edges", 0.2)
    traced = copy.deepcopy(eager)
    compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 300)
    for _ in range(2):
        with effective_weights():
            outputs = eager(x), compiled(x)
        assert torch.equal(*outputs)
        for output in outputs:
            output.square().mean().backward()
    for one, other in zip(eager.parameters(), traced.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(eager.eval()(x), compiled.eval()(x))
    weight = coarse()[0].weight.detach()  # type: ignore[index, union-attr, operator]
    among = weight > -0.5
    selected = torch.compile(largest_magnitudes, backend="aot_eager", fullgraph=True)
    for k in (400, 7_320, 30_000):
        assert torch.equal(selected(weight, k), largest_magnitudes(weight, k))
        assert torch.equal(selected(weight, k, among), largest_magnitudes(weight, k, among))


def test_a_rule_with_hooks_trains_compiled() -> None:
    """RigL moves its edges between compiled steps as between plain ones."""
    eager = network()
    sparsify(eager, "rigl", 0.25)
    traced = copy.deepcopy(eager)
    train(eager, *batch())
    train(torch.compile(traced, backend="aot_eager", fullgraph=True), *batch())  # type: ignore[arg-type]
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(traced.state_dict()[name], value)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "targeted-dropout"])
def test_every_rule_is_one_graph(rule: str) -> None:
    """Compiled without a break, in training and evaluation, with the same output and gradients; one rule draws."""
    torch._dynamo.reset()
    eager = little(rule)
    traced = copy.deepcopy(eager)
    compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 10)
    outputs = eager(x), compiled(x)
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().mean().backward()
    for one, other in zip(eager.parameters(), traced.parameters(), strict=True):
        assert one.grad is None if other.grad is None else torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(eager.eval()(x), compiled.eval()(x))


@pytest.mark.parametrize("rule", RULES)
def test_exported_programs_compute_the_same(rule: str) -> None:
    """In evaluation, with the rules and after they were taken off; then no mask is left in the program."""
    made = little(rule)
    x = torch.randn(4, 10)
    expected = made.eval()(x)
    assert torch.equal(torch.export.export(made, (x,)).module()(x), expected)
    remove_rules(made)
    plain = torch.export.export(made, (x,))
    assert torch.equal(plain.module()(x), expected)
    assert sorted(plain.state_dict) == ["0.bias", "0.weight", "2.bias", "2.weight"]


@pytest.mark.parametrize("rule", ["top-edges", "rigl", "soft-threshold"])
def test_onnx_files_compute_the_same(rule: str, capfd: pytest.CaptureFixture[str]) -> None:
    """By ONNX's reference interpreter, with the rules and after they were taken off; then the file is layers alone."""
    from onnx.reference import ReferenceEvaluator

    made = little(rule).eval()
    x = torch.randn(4, 10)
    expected = made(x).detach()
    nodes = []
    for _ in range(2):
        program = torch.onnx.export(made, (x,), dynamo=True, verbose=False)
        assert program is not None
        model = program.model_proto
        (found,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected)
        nodes.append(len(model.graph.node))
        remove_rules(made)
    assert nodes[1] == 3
    assert (nodes[0] > 30) == (rule == "top-edges")  # whose selection is part of the program
    capfd.readouterr()
