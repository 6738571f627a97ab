"""Where edges begin that are drawn: by lot, or on the largest magnitudes of a trained network; and the warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.networks.every_rule import DRAWING, RULES, WEIGHTS, arguments
from support.networks.sparsify_workers import batch, network, train
from torch import nn

from dnw_core import layer_table, sparsify
from dnw_core.errors import UserError
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.selection import largest_magnitudes

LOSSY = [*DRAWING, "constant-fan"]


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each rule that can be attached to a network by itself."""
    return request.param


def with_norm(**values: Any) -> nn.Module:
    """The small network and a norm, some of whose tensors are filled."""
    made = nn.Sequential(*network(), nn.BatchNorm1d(5))  # type: ignore[misc]
    for name, value in values.items():
        getattr(made[6], name).data.copy_(torch.as_tensor(value))
    return made


@pytest.mark.parametrize("layers", ["uniform", "erk"])
@pytest.mark.parametrize("rule", DRAWING)
def test_edges_begin_on_the_largest_magnitudes(rule: str, layers: Any) -> None:
    """As many as promised, ties to the lowest index, with the weights' values; and training goes on from there."""
    made = network()
    with torch.no_grad():
        made[5].weight.mul_(30).round_()  # type: ignore[index, union-attr, operator]
    before = {name: made.get_parameter(name).detach().clone() for name in WEIGHTS}
    drawn = sparsify(network(), rule, 0.25, layers=layers)
    table = sparsify(made, rule, 0.25, layers=layers, start="largest")
    assert [row.kept for row in table.rows] == [row.kept for row in drawn.rows]
    for here, row in zip(attached_rules(made), table.rows, strict=True):
        expected = largest_magnitudes(before[here.name], row.kept)
        assert here.edges().equal(expected)
        assert made.get_submodule(here.name.removesuffix(".weight")).weight.equal(before[here.name] * expected)  # type: ignore[union-attr, operator]
    train(made, *batch())
    assert layer_table(made).total.kept == table.total.kept


@pytest.mark.parametrize("rule", DRAWING)
def test_drawing_on_purpose_draws_what_is_drawn_by_default(rule: str) -> None:
    """The same masks to the bit."""
    made = [network(), network()]
    sparsify(made[0], rule, 0.25)
    sparsify(made[1], rule, 0.25, start="drawn")
    for one, other in zip(*[attached_rules(each) for each in made], strict=True):
        assert one.edges().equal(other.edges())


def test_a_start_that_does_not_fit() -> None:
    """Another word, rules that draw nothing, and one whose edges have a structure: one sentence each."""
    made = network()
    for given, sentence in [
        ({"rule": "rigl", "density": 0.5, "start": "largets"}, "start is 'largets'; it is one of: drawn, largest"),
        ({"rule": "constant-fan", "factor": 2, "start": "largest"}, "rule 'constant-fan' gives every neuron the same"),
        *[
            (arguments(rule) | {"start": start}, f"rule {rule!r} draws no edges, so there is no start to choose")
            for rule in RULES
            if rule not in LOSSY
            for start in ("drawn", "largest")
        ],
    ]:
        with pytest.raises(UserError) as caught:
            sparsify(made, **given)
        assert str(caught.value).startswith(sentence)
        assert not list(attached_rules(made))


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ({"num_batches_tracked": 1200}, "6 has seen 1,200 batches"),
        ({"bias": [0.0, 0.0, 0.1, 0.0, 0.0]}, "the biases of 6 differ"),
    ],
)
def test_drawing_among_trained_weights_warns(rule: str, values: dict[str, Any], sign: str) -> None:
    """Once, in the user's line, with what to do; not where nothing is drawn, nor where the user has chosen."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = sparsify(with_norm(**values), **arguments(rule))
        for start in ("drawn", "largest"):
            if rule in LOSSY and (rule, start) != ("constant-fan", "largest"):
                sparsify(with_norm(**values), **arguments(rule), start=start)
    if rule not in LOSSY:
        assert not caught
        return
    (warning,) = caught
    assert warning.filename == __file__
    text = str(warning.message)
    better = 'start="largest" keeps the largest magnitudes instead, ' if rule in DRAWING else ""
    assert text == (
        f"the network has been trained ({sign}), and rule {rule!r} draws by lot which {table.total.density:.1%} of its "
        f'weights are kept: what the others have learned is lost; {better}start="drawn" says that this is meant'
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"num_batches_tracked": 1},  # the batch that lazy layers need
        {"bias": 0.5, "weight": 0.0},
    ],
)
def test_a_fresh_network_warns_of_nothing(values: dict[str, Any]) -> None:
    """Norms as common initialisations leave them, norms without biases, and a density that loses nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsify(with_norm(**values), "rigl", 0.25)
        plain = nn.Sequential(
            nn.Linear(6, 6), nn.LayerNorm(6, bias=False), nn.BatchNorm1d(6, affine=False), nn.Linear(6, 6)
        )
        sparsify(plain, "rigl", 0.25)
        sparsify(with_norm(num_batches_tracked=9), "rigl", 1.0)
        sparsify(with_norm(num_batches_tracked=9).to(torch.float64), "top-edges", 0.25)
        meta = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6, device="meta"))
        sparsify(meta, "rigl", 0.25)


def test_a_network_that_was_really_trained_warns() -> None:
    """A norm without counters: its biases are enough."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.LayerNorm(8), nn.Linear(8, 5))
    train(made, *batch())
    with pytest.warns(UserWarning, match=r"^the network has been trained \(the biases of 2 differ\)"):
        sparsify(made, "set", 0.25)
