"""The norm of channels-last maps on a CPU: as exact as the contiguous order's, and PyTorch's in every other respect."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dnw_core.config import NETWORKS
from dnw_core.models.layers import batch_norm
from dnw_core.models.layers.batch_norm import BatchNorm2d
from dnw_core.models.layers.channel_major import node_operations
from dnw_core.registry import load_class

LAST = torch.channels_last
FEWEST_ROWS = 128
NAMES = ("maps", "gradient of the maps", "of the weight", "of the bias", "running mean", "running variance")


@pytest.fixture(autouse=True)
def small_maps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that PyTorch's norm would be left are summed up here, too, so that small ones can stand for large ones."""
    monkeypatch.setattr(batch_norm, "EXACT_ROWS", FEWEST_ROWS)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads in the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    """Maps with a mean of their own in each channel, and a gradient that goes with them; channels last."""
    generator = torch.Generator().manual_seed(0)
    maps = 2 * torch.randn(shape, generator=generator).relu_() + torch.randn(shape[1], 1, 1, generator=generator)
    grad = 0.1 * torch.randn(shape, generator=generator) + 0.1 * maps
    return maps.contiguous(memory_format=LAST), grad.contiguous(memory_format=LAST)


def affine(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The norm with a weight and a bias that are not those of the beginning."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return norm


def results(norm: nn.BatchNorm2d, maps: Tensor, grad: Tensor) -> list[Tensor | None]:
    """What a forward and a backward pass leave, as ``NAMES`` says."""
    maps = maps.detach().requires_grad_()
    made = norm(maps)
    made.backward(grad)
    parts = (made.detach(), maps.grad, *(None if p is None else p.grad for p in (norm.weight, norm.bias)))
    return [*parts, norm.running_mean, norm.running_var]


def off(found: list[Tensor | None], right: list[Tensor | None]) -> dict[str, float]:
    """The largest error of each, relative to its largest value."""
    pairs = {name: pair for name, *pair in zip(NAMES, found, right, strict=True) if pair[0] is not None}
    return {name: float((one.double() - other).abs().max() / other.abs().max()) for name, (one, other) in pairs.items()}


SHAPES = [
    (128, 32, 32, 32),  # the size at which PyTorch's error is 1e-4 to 1e-2 here
    (3, 5, 31, 33),  # rows that are no multiple of anything
    (1, 7, 60, 60),  # one image
    (700, 24, 1, 1),  # one pixel, where channels-last is contiguous, too
    (FEWEST_ROWS + 1, 6, 1, 1),  # the fewest rows
    (2, 2100, 9, 9),  # a row is wider than what is read at once
    (5, 600, 16, 15),  # several pieces, the last one short
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_as_exact_as_float32_allows(shape: tuple[int, ...], threads: int) -> None:
    """Against float64: values and statistics to 1e-6, gradients to 5e-6; the large one 20 to 1000 times PyTorch's."""
    maps, grad = batch(*shape)
    right = results(affine(nn.BatchNorm2d(shape[1])).double(), maps.double(), grad.double())
    errors = off(results(affine(BatchNorm2d(shape[1])), maps, grad), right)
    gradients = {"gradient of the maps", "of the weight"}
    assert {name: error for name, error in errors.items() if error > (5e-6 if name in gradients else 1e-6)} == {}


def test_channel_major_maps_are_as_exact() -> None:
    """Whole rows, [c, b, h, w]: PyTorch's contiguous kernel, which adds up in float64."""
    maps, _ = batch(300, 5, 8, 8)
    found = []
    for dtype in (torch.float32, torch.float64):
        norm = affine(BatchNorm2d(5)).to(dtype)
        conv = nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False).to(dtype)
        nn.init.constant_(conv.weight, 0.25)
        x = maps.to(dtype).transpose(0, 1).contiguous().requires_grad_()
        node_operations(x, norm, conv).square().sum().backward()
        found.append([None, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    assert max(off(*found).values()) < 2e-6


@pytest.mark.parametrize(
    "settings",
    [{}, {"affine": False}, {"momentum": None}, {"momentum": 0.3, "eps": 1e-2}, {"track_running_stats": False}],
    ids=str,
)
def test_settings_mean_what_they_mean_in_pytorch(settings: dict[str, Any]) -> None:
    """Two batches: values, gradients, running statistics and their count; without running ones in evaluation, too."""
    maps, grad = batch(4, 6, 13, 11)
    found = []
    for norm in (affine(BatchNorm2d(6, **settings)), affine(nn.BatchNorm2d(6, **settings)).double()):
        dtype = torch.float32 if isinstance(norm, BatchNorm2d) else torch.float64
        parts = results(norm, maps.to(dtype), grad.to(dtype))
        parts += results(norm, 3 * maps.to(dtype), grad.to(dtype))
        parts.append(norm.eval()(maps.to(dtype)).detach())
        found.append(parts + list(norm.buffers()))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-5, atol=1e-6)


def test_statistics_that_must_not_move_stay() -> None:
    """As the training loop has it for all but a batch's first group (``batch_statistics.frozen_running_stats``)."""
    maps, _ = batch(4, 6, 13, 11)
    norm = BatchNorm2d(6)
    norm.track_running_stats = False
    made = norm(maps)
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(6))
    torch.testing.assert_close(made.mean((0, 2, 3)), torch.zeros(6), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "frozen", [("maps",), ("weight",), ("bias",), ("maps", "bias"), ("weight", "bias"), ("maps", "weight", "bias")]
)
def test_only_what_is_wanted_gets_a_gradient(frozen: tuple[str, ...]) -> None:
    """Each on its own is what it is among all, to the bit."""
    maps, grad = batch(4, 6, 13, 11)
    found = []
    for without in ((), frozen):
        norm = affine(BatchNorm2d(6))
        leaves = {"maps": maps.clone().requires_grad_(), "weight": norm.weight, "bias": norm.bias}
        for name in without:
            leaves[name].requires_grad_(False)
        made = norm(leaves["maps"])
        if made.requires_grad:
            made.backward(grad)
        found.append({name: leaf.grad for name, leaf in leaves.items()})
    for name, gradient in found[1].items():
        assert (gradient is None) == (name in frozen)
        assert gradient is None or torch.equal(gradient, found[0][name])


def test_gradients_of_gradients_are_pytorch_s() -> None:
    """The norm's second derivative, by maps, weight and bias."""
    maps, grad = batch(4, 6, 13, 11)
    found = []
    for norm, dtype in ((affine(BatchNorm2d(6)), torch.float32), (affine(nn.BatchNorm2d(6)).double(), torch.float64)):
        x = maps.to(dtype).requires_grad_()
        first = torch.autograd.grad(norm(x), (x, norm.weight, norm.bias), grad.to(dtype), create_graph=True)
        penalty = sum(part.square().sum() for part in first)
        found.append(torch.autograd.grad(penalty, (x, norm.weight)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_a_gradient_in_another_order_counts_the_same() -> None:
    """The next layer may hand back contiguous maps, or one value for all of them."""
    maps, grad = batch(4, 6, 13, 11)
    for other in (grad.contiguous(), torch.ones(()).expand(grad.shape)):
        found = [results(affine(BatchNorm2d(6)), maps, one) for one in (other.contiguous(memory_format=LAST), other)]
        assert all(torch.equal(one, two) for one, two in zip(*found, strict=True) if one is not None)


def test_everything_else_is_pytorch_s_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contiguous maps, float64, half precision, few rows, evaluation: its own kernels, never ours."""
    monkeypatch.setattr(batch_norm, "statistics", None)
    maps, _ = batch(4, 6, 13, 11)
    sliced = batch(4, 12, 13, 11)[0][:, ::2]
    for x in (maps.contiguous(), maps.double(), maps.bfloat16(), maps[:1, :, :4, :4], sliced):
        ours, theirs = (
            kind(6).to(torch.float64 if x.dtype == torch.float64 else None) for kind in (BatchNorm2d, nn.BatchNorm2d)
        )
        assert torch.equal(ours(x), theirs(x))
        assert torch.equal(ours.running_var, theirs.running_var)
        assert torch.equal(ours.eval()(maps.to(x.dtype)), theirs.eval()(maps.to(x.dtype)))


def test_shapes_that_pytorch_refuses_are_refused() -> None:
    """One value a channel, three dimensions, another number of channels."""
    for shape in ((1, 6, 1, 1), (40, 6, 40)):
        with pytest.raises(ValueError, match=r"more than 1 value per channel|expected 4D input"):
            BatchNorm2d(6)(torch.randn(shape))
    with pytest.raises(RuntimeError, match="running_mean should contain"):
        BatchNorm2d(6)(batch(4, 7, 13, 11)[0])


def test_function_transforms_and_compilation_take_pytorch_s() -> None:
    """torch.func differentiates it; a compiled norm has one graph, and the norm's own numbers."""
    maps, grad = batch(4, 6, 13, 11)
    norm = affine(BatchNorm2d(6, track_running_stats=False))
    right = results(norm, maps, grad)[1]
    found = torch.func.grad(lambda x: (norm(x) * grad).sum())(maps)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
    compiled = torch.compile(norm, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps), norm(maps), rtol=1e-4, atol=1e-5)


def test_bits_depend_on_the_input_alone() -> None:
    """Again, from a deep copy and from a pickle: the same; the state is that of PyTorch's norm."""
    maps, grad = batch(4, 6, 13, 11)
    norm = affine(BatchNorm2d(6))
    twins = [copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))]
    first = results(norm, maps, grad)
    for twin in twins:
        assert all(torch.equal(one, two) for one, two in zip(first, results(twin, maps, grad), strict=True))
    nn.BatchNorm2d(6).load_state_dict(norm.state_dict())


SETTINGS: dict[str, dict[str, Any]] = {
    "mobilenet-v2": {"width_multiplier": 1},
    "light-densenet": {"growth": 10},
    "light-xception": {"stem_channels": 24, "middle_channels": 16},
    "shufflenet-v1": {"width": "x0.5"},
    "shufflenet-v2": {"width": "x0.5"},
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_has_this_norm(kind: str) -> None:
    """Also those that others build: whatever runs channels-last on a CPU."""
    config = NETWORKS[kind](kind=kind, **SETTINGS.get(kind, {}))
    make = load_class(config.implementation)  # imported here: torchdiffeq makes tensors as it is imported
    with torch.device("meta"):
        network = make(config)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert {type(norm) for norm in norms} == {BatchNorm2d}
