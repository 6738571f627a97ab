"""Weights of every precision, place and kind: a rule works on them, or one sentence says why it does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support.networks.every_rule import RULES, WEIGHTS, arguments, sparse
from support.networks.sparsify_workers import batch, network
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DataParallel
from torch.testing._internal.two_tensor import TwoTensor

from dnw_core import Run, Wiring, effective_weights, layer_table, remove_rules, sparsify
from dnw_core.config.later_rules import EdgePopupConfig, SetConfig
from dnw_core.errors import UserError
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rules.drop_and_grow import SparseEvolutionaryTraining
from dnw_core.wiring.rules.edge_popup import EdgePopup


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each rule that can be attached to a network by itself."""
    return request.param


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("moved", ["before", "after"])
def test_every_rule_trains_in_every_precision(rule: str, dtype: torch.dtype, moved: str) -> None:
    """Converted before or after: exact counts in the layers at every step, a copy, and the way back."""
    made = network().to(dtype) if moved == "before" else sparse(rule).to(dtype)
    if moved == "before":
        sparsify(made, **arguments(rule))
    assert {buffer.dtype for buffer in made.buffers()} <= {torch.bool, torch.uint8, torch.int64}
    before = {name: value.clone() for name, value in made.named_parameters()}
    train_counted(made, dtype)
    assert not all(value.equal(before[name]) for name, value in made.named_parameters())
    images, expected = batch()[0].to(dtype), made.eval()(batch()[0].to(dtype))
    clone = copy.deepcopy(made)
    remove_rules(clone)
    assert torch.equal(made(images), expected)
    remove_rules(made)
    assert all(weight.dtype is dtype for weight in made.parameters())
    assert torch.equal(made(images), expected)
    assert torch.equal(clone(images), expected)


def train_counted(made: nn.Module, dtype: torch.dtype) -> None:
    """Two epochs of two steps; what the layers multiply with is counted after each."""
    images, labels = batch()
    optimiser = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    wiring = Wiring(made, optimiser)
    wiring.begin(Run(epochs=2, steps_per_epoch=2))
    for step in range(4):
        optimiser.zero_grad()
        with effective_weights():
            cross_entropy(made(images.to(dtype)).float(), labels).backward()
        wiring.before_step(step)
        optimiser.step()
        wiring.after_step(step)
        if step % 2:
            wiring.after_epoch(step // 2)
        for row in layer_table(made.eval()).rows:
            weight = made.get_submodule(row.name.removesuffix(".weight")).weight
            assert weight.dtype is dtype  # type: ignore[union-attr]
            assert weight.count_nonzero() <= row.kept  # type: ignore[union-attr, operator]
        made.train()


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rule", ["edge-popup", "soft-threshold"])
def test_the_default_precision_is_not_that_of_scores(rule: str, default: torch.dtype) -> None:
    """Under ``set_default_dtype`` a rule has the numbers that it has without it, and the default stays."""
    expected = [own.clone() for here in attached_rules(sparse(rule)) for own in here.rule.parameters()]
    made = network()
    torch.set_default_dtype(default)
    try:
        sparsify(made, **arguments(rule))
        assert torch.get_default_dtype() is default
    finally:
        torch.set_default_dtype(torch.float32)
    found = [own for here in attached_rules(made) for own in here.rule.parameters()]
    assert all(own.dtype is torch.float32 and torch.equal(own, one) for own, one in zip(found, expected, strict=True))


def test_what_a_rule_trains_itself_is_as_precise_as_its_weight() -> None:
    """In float64 scores and thresholds are, too; they are never less precise than float32."""
    for dtype, own in [(torch.float64, torch.float64), (torch.float16, torch.float32), (torch.float32, torch.float32)]:
        for rule in ("edge-popup", "soft-threshold"):
            made = network().to(dtype)
            sparsify(made, **arguments(rule))
            found = [next(here.rule.parameters()).dtype for here in attached_rules(made)]
            assert found == [own] * 3


def with_weight(weight: Any) -> nn.Module:
    """The small network, its last layer's weight replaced."""
    made = network()
    made[5].weight = nn.Parameter(weight, requires_grad=False)  # type: ignore[index, union-attr]
    return made


def in_inference_mode() -> nn.Module:
    """A network whose tensors were made there."""
    with torch.inference_mode():
        return network()


UNUSUAL: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("meta", lambda: network().to("meta"), "0.weight has no values (it is on the meta device); load it onto a real"),
    ("one of them meta", lambda: with_weight(torch.empty(5, 64, device="meta")), "5.weight has no values"),
    ("float8", lambda: with_weight(torch.zeros(5, 64).to(torch.float8_e4m3fn)), "5.weight is of torch.float8_e4m3fn;"),
    ("integer", lambda: with_weight(torch.zeros(5, 64, dtype=torch.int8)), "5.weight is of torch.int8; rules are for"),
    ("boolean", lambda: with_weight(torch.zeros(5, 64, dtype=torch.bool)), "5.weight is of torch.bool; rules are for"),
    ("complex", lambda: with_weight(torch.zeros(5, 64, dtype=torch.complex64)), "5.weight is of torch.complex64;"),
    (
        "quantised",
        lambda: with_weight(torch.quantize_per_tensor(torch.zeros(5, 64), 0.1, 0, torch.qint8)),
        "5.weight is of torch.qint8; rules are for float16, bfloat16, float32 and float64: skip it",
    ),
    ("sparse", lambda: with_weight(torch.eye(5, 64).to_sparse()), "5.weight is stored as torch.sparse_coo; make it"),
    ("subclass", lambda: with_weight(TwoTensor(torch.ones(5, 64), torch.ones(5, 64))), "5.weight is a TwoTensor and"),
    ("flattened", lambda: with_weight(torch.ones(320)), "5.weight has shape (320,); that of a Linear has 2 dimensions"),
    ("nothing left", lambda: with_weight(torch.ones(0)), "5.weight has shape (0,); that of a Linear has 2 dimensions"),
    ("expanded", lambda: with_weight(torch.ones(1, 64).expand(5, 64)), "5.weight is expanded: several entries are one"),
    ("inference mode", in_inference_mode, "0.weight was made in inference mode and cannot be trained"),
    ("wrapped", lambda: DataParallel(network()), "the network is wrapped in DataParallel already; call sparsify first"),
]


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(("make", "sentence"), [case[1:] for case in UNUSUAL], ids=[case[0] for case in UNUSUAL])
def test_unusual_weights_are_refused_in_one_sentence(make: Callable[[], nn.Module], sentence: str) -> None:
    """Nothing is attached and no value changes; skipped, they are no hindrance to the other layers."""
    made = make()
    weights = [parameter for parameter in made.parameters() if not parameter.is_meta]
    before = [weight.clone() for weight in weights]
    with pytest.raises(UserError) as caught:
        sparsify(made, "set", 0.25)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(attached_rules(made))
    assert len(weights) == len([parameter for parameter in made.parameters() if not parameter.is_meta])
    for weight, values in zip(weights, before, strict=True):
        assert plain(weight).equal(plain(values))
    if sentence.startswith("5."):
        assert len(sparsify(made, "set", 0.25, skip="5").rows) == 2


def plain(values: torch.Tensor) -> torch.Tensor:
    """The values of a tensor of any kind."""
    return (values.dequantize() if values.is_quantized else values.to_dense()).to(torch.complex64)


def test_two_parameters_with_one_memory_are_one_weight() -> None:
    """Tied by their data, which makes them no less tied."""
    made = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    made[1].weight.data = made[0].weight.data
    with pytest.raises(UserError, match=r"^0\.weight and 1\.weight are one shared weight"):
        sparsify(made, "set", 0.5)


def test_frozen_weights_and_modes_make_no_difference() -> None:
    """A weight without a gradient takes a rule; within inference mode what is made can still be trained with."""
    made = network()
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    assert sparsify(made, "rigl", 0.25).total.kept == 422
    assert not any(parameter.requires_grad for parameter in made.parameters())
    for mode in (torch.inference_mode(), torch.no_grad(), torch.device("meta")):
        made = network()
        with mode:
            table = sparsify(made, "edge-popup", 0.25)
        assert table.total.kept == 422
        train_counted(made, torch.float32)


def test_layers_without_entries_are_passed_over() -> None:
    """They are in no table and in nobody's way; a network of these alone is refused."""
    made = nn.Sequential(nn.Linear(4, 4), empty(nn.Linear, 0, 5), empty(nn.Conv2d, 0, 4, 3), empty(nn.Linear, 3, 0))
    for given in [{"rule": "rigl", "density": 0.5, "layers": "erk"}, {"rule": "constant-fan", "factor": 2}]:
        table = sparsify(made, **given)
        assert [(row.name, row.slots, row.kept) for row in table.rows] == [("0.weight", 16, 8)]
        remove_rules(made)
    assert len(sparsify(made, "rigl", 0.5, skip=["1", made[2]]).rows) == 1
    with pytest.raises(UserError, match=r"^Linear has no prunable weight: those of its layers have no entries"):
        sparsify(empty(nn.Linear, 0, 5), "rigl", 0.5)


def empty(kind: Any, *sizes: int) -> nn.Module:
    """A layer without entries, about which PyTorch warns."""
    with pytest.warns(UserWarning, match="zero-element"):
        made: nn.Module = kind(*sizes)
    return made


def test_the_table_of_nothing() -> None:
    """No weight has a rule: no division by zero, and no density either."""
    table = layer_table(network())
    assert str(table).splitlines()[-1].split() == ["total", "0", "0", "–"]
    assert table.total.density != table.total.density


class Stubborn:
    """Refuses the third weight, after it has changed it."""

    def on_attach(self, weight: nn.Parameter) -> None:
        """As the rule does, and then an error."""
        super().on_attach(weight)  # type: ignore[misc]
        if weight.shape == (5, 64):
            raise KeyboardInterrupt


class StubbornSet(Stubborn, SparseEvolutionaryTraining):
    """Sets weights to zero."""

    def __init__(self, config: SetConfig, slots: Any, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)


class StubbornPopup(Stubborn, EdgePopup):
    """Freezes weights and gives them one magnitude."""

    def __init__(self, config: EdgePopupConfig, slots: Any, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)


class Miscounting(SparseEvolutionaryTraining):
    """Has more edges than it promises, which is noticed when all are attached."""

    def __init__(self, config: SetConfig, slots: Any, generator: torch.Generator) -> None:
        super().__init__(config, slots, generator)

    def edges(self, weight: torch.Tensor) -> torch.Tensor:
        """All slots."""
        return torch.ones_like(weight, dtype=torch.bool)


@pytest.mark.parametrize(
    ("kind", "error", "settings"),
    [
        (StubbornSet, KeyboardInterrupt, {}),
        (StubbornPopup, KeyboardInterrupt, {"frozen_weights": "signed-constant"}),
        (Miscounting, AssertionError, {}),
    ],
)
def test_any_error_puts_everything_back(kind: Any, error: type[BaseException], settings: dict[str, Any]) -> None:
    """Values, gradients' switches, order and classes, also of a layer inside of another; an earlier rule stays."""
    made = network()
    made[2].inner = nn.Linear(3, 3)  # type: ignore[index, union-attr]
    sparsify(made[2].inner, "top-edges", 0.5)  # type: ignore[index, union-attr, arg-type]
    made[0].weight.requires_grad_(False)  # type: ignore[index, union-attr, operator]
    parameters = dict(made.named_parameters())
    before = copy.deepcopy(made)
    with pytest.raises(error):
        sparsify(made, kind, 0.25, skip="2.inner", **settings)
    assert list(made.state_dict()) == list(before.state_dict())
    for name, value in before.named_parameters():
        now = made.get_parameter(name)
        assert now is parameters[name]
        assert (now.requires_grad, True) == (value.requires_grad, now.equal(value))
    assert [type(module) for module in made] == [type(module) for module in network()]  # type: ignore[attr-defined]
    assert [here.name for here in attached_rules(made)] == ["2.inner.weight"]
    assert [row.name for row in sparsify(made, "set", 0.25, skip="2.inner").rows if "inner" not in row.name] == WEIGHTS
