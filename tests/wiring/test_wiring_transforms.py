"""``torch.func`` over sparse networks: every transform, every rule, the same numbers as plain autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.networks.every_rule import RULES, sparse
from support.networks.sparse_rules import little
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

from dnw_core import effective_weights
from dnw_core.wiring.transforms import (
    differentiating_by_transform,
    in_backward_pass,
    is_concrete,
    never_compiled,
    version_of,
)


def batch() -> Tensor:
    """Four inputs."""
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(1))


def network(rule: str, mode: str) -> nn.Module:
    """The little network in float64, in this mode; with thresholds that cut something."""
    made = little(rule).double().train(mode == "training")
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(".s"):
                parameter.fill_(-2.0)
    return made


def trained(made: nn.Module) -> dict[str, Tensor]:
    """What autograd differentiates by."""
    return {name: value for name, value in made.named_parameters() if value.requires_grad}


def scalar(made: nn.Module, parameters: dict[str, Tensor], one: Tensor) -> Tensor:
    """A loss of one input with these parameters."""
    out: Tensor = functional_call(made, parameters, (one[None],))
    return out.square().sum()


MODES = pytest.mark.parametrize("mode", ["evaluation", "training"])
EVERY_RULE = pytest.mark.parametrize("rule", RULES)


@MODES
@EVERY_RULE
def test_gradients_of_each_sample(rule: str, mode: str) -> None:
    """``vmap(grad)`` gives, input by input, what backward gives; so does ``grad`` alone, within the context."""
    made, x = network(rule, mode), batch().double()
    parameters = trained(made)
    by_sample = vmap(grad(lambda p, one: scalar(made, p, one)), (None, 0), randomness="same")(parameters, x)
    with effective_weights():
        alone = grad(lambda p: scalar(made, p, x[0]))(parameters)
    for index, one in enumerate(x):
        made.zero_grad()
        made(one[None]).square().sum().backward()
        for name, parameter in parameters.items():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(by_sample[name][index], expected)
            if not index:
                torch.testing.assert_close(alone[name], expected)


@MODES
@EVERY_RULE
def test_jacobians_and_directional_derivatives(rule: str, mode: str) -> None:
    """``jacrev`` and ``jacfwd`` agree by inputs; ``jvp`` and ``vjp`` are each other's transpose by parameters."""
    made, x = network(rule, mode), batch().double()
    reverse, forward = jacrev(made)(x[0]), jacfwd(made, randomness="same")(x[0])
    assert reverse.shape == (4, 10)
    torch.testing.assert_close(reverse, forward)
    names, values = zip(*((name, value.detach()) for name, value in trained(made).items()), strict=True)

    def outputs(*given: Tensor) -> Tensor:
        out: Tensor = functional_call(made, dict(zip(names, given, strict=True)), (x,))
        return out

    generator = torch.Generator().manual_seed(2)
    along = tuple(torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in values)
    value, pushed = jvp(outputs, values, along)
    torch.testing.assert_close(value, made(x))
    across = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    _, pull = vjp(outputs, *values)
    pulled = pull(across)
    torch.testing.assert_close((pushed * across).sum(), sum((a * b).sum() for a, b in zip(along, pulled, strict=True)))
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(one, direction) for one, direction in zip(values, along, strict=True)]
        torch.testing.assert_close(forward_ad.unpack_dual(outputs(*duals)).tangent, pushed)


@MODES
@EVERY_RULE
def test_an_ensemble(rule: str, mode: str) -> None:
    """Three networks at once, weights and buffers stacked, are the three one by one; also inputs alone are mapped."""
    x = batch().double()
    ensemble = [network(rule, mode) for _ in range(3)]
    with torch.no_grad():
        for index, made in enumerate(ensemble):
            for parameter in made.parameters():
                parameter.mul_(1 + index / 2)
    expected = torch.stack([made(x) for made in ensemble])
    stacked = stack_module_state(ensemble)  # type: ignore[arg-type]
    base = copy.deepcopy(ensemble[0])

    def one(parameters: Any, buffers: Any) -> Any:
        return functional_call(base, (parameters, buffers), (x,))

    if rule == "targeted-dropout" and mode == "training":
        with pytest.raises(RuntimeError, match="vmap"):  # each network draws by a seed of its own
            vmap(one, randomness="same")(*stacked)
    else:
        torch.testing.assert_close(vmap(one)(*stacked), expected)
    torch.testing.assert_close(vmap(ensemble[1], randomness="same")(x), expected[1])


@EVERY_RULE
def test_second_derivatives(rule: str) -> None:
    """Of plain autograd, twice backwards, and of ``hessian``: the same numbers."""
    made, x = network(rule, "evaluation"), batch().double()
    name, values = next((name, value) for name, value in trained(made).items() if value.numel() > 16)

    def loss(given: Tensor) -> Tensor:
        return scalar(made, {**trained(made), name: given}, x[0])

    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (first,) = torch.autograd.grad(loss(values), values, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), values)
    curved = hessian(loss)(values.detach())
    torch.testing.assert_close(torch.tensordot(curved, direction, dims=values.dim()), second)
    assert second.any()


@EVERY_RULE
def test_transforms_in_half_precision(rule: str) -> None:
    """What a rule trains itself in single precision makes the effective weight no more precise than the weight."""
    made, x = sparse(rule, made=nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4)).bfloat16()), batch()
    plain = torch.autograd.functional.jacobian(made.eval(), x[0].bfloat16())
    found = jacrev(made)(x[0].bfloat16())
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found, plain, rtol=0.05, atol=0.005)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore:.*deprecated")
@EVERY_RULE
def test_a_trace_follows_the_weights(rule: str) -> None:
    """``torch.jit.trace`` (TensorBoard's ``add_graph`` calls it): no choice of the traced moment is frozen into it."""
    made, x = little(rule).eval(), batch()
    traced = torch.jit.trace(made, (x,))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter).mul(4).round())  # with ties
        assert torch.equal(traced(x), made(x))


def test_what_is_asked_of_pytorch_is_answered() -> None:
    """Plain code, each kind of transform, a backward pass, forward mode, tensors without values and subclasses."""
    seen: list[tuple[bool, bool]] = []

    def look(x: Tensor) -> Tensor:
        seen.append((differentiating_by_transform(), is_concrete(x)))
        return x * 2

    assert is_concrete(look(torch.ones(2)))
    vmap(look)(torch.ones(2))
    grad(look)(torch.ones(()))
    jvp(look, (torch.ones(2),), (torch.ones(2),))
    with forward_ad.dual_level():
        look(torch.ones(2))
    look(torch.ones(2))
    assert [one for one, _ in seen] == [False, True, True, True, True, False]
    assert [one for _, one in seen] == [True, False, False, False, True, True]
    assert not is_concrete(torch.ones(2, device="meta"))
    with torch.inference_mode():
        made = torch.ones(2)
    assert (version_of(made), version_of(torch.ones(2).add_(1))) == (-1, 1)
    x = torch.ones(2, requires_grad=True)
    inside: list[bool] = []
    x.register_hook(lambda _: inside.append(in_backward_pass()))
    assert not in_backward_pass()
    x.sum().backward()  # type: ignore[no-untyped-call]
    assert inside == [True]
    assert not in_backward_pass()


def test_what_is_never_compiled_runs_as_it_is_written() -> None:
    """Beside code that is compiled: with its own arguments and result, and the gradient passes through it."""
    seen: list[bool] = []

    @never_compiled
    def eager(x: torch.Tensor, factor: float) -> torch.Tensor:
        seen.append(torch.compiler.is_compiling())
        return x * factor if x.sum().item() > 0 else -x

    def whole(x: torch.Tensor) -> torch.Tensor:
        return eager(x + 1, 2.0).relu() * 3

    compiled = torch.compile(whole, backend="aot_eager")
    for values in ([1.0, 2.0], [-5.0, 1.0], [0.5, 3.0]):
        ours, theirs = (torch.tensor(values, requires_grad=True) for _ in range(2))
        compiled(ours).sum().backward()
        whole(theirs).sum().backward()
        assert torch.equal(compiled(ours), whole(theirs))
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
    assert len(seen) == 12
    assert not any(seen)
