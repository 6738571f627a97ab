"""The two ways of the edge product give the same numbers."""

from __future__ import annotations

import pytest
import torch

from dnw_core.models.layers.edges import EdgeProduct
from dnw_core.models.tiny.base import node_norm


def problem(density: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight of this density, an input and an output gradient."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 20, generator=generator) * (torch.rand(30, 20, generator=generator) < density)
    x = torch.randn(4, 20, 6, 5, generator=generator)
    grad = torch.randn(4, 30, 6, 5, generator=generator)
    return weight, x, grad


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("channels_last", [False, True])
def test_sparse_and_dense_agree(density: float, channels_last: bool) -> None:
    """Value, input gradient, and the dense weight gradient, in any memory order."""
    weight, x, grad = problem(density)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    found = []
    for sparse in (True, False):
        w, inputs = weight.clone().requires_grad_(), x.clone().requires_grad_()
        y = EdgeProduct(w, sparse=sparse)(inputs)
        y.backward(grad)
        found.append((y.detach(), w.grad, inputs.grad))
    for a, b in zip(*found, strict=True):
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, atol=1e-5)
    expected = torch.einsum("oi,bihw->bohw", weight.double(), x.double())
    assert torch.allclose(found[0][0].double(), expected, atol=1e-5)


def test_weight_gradient_is_dense() -> None:
    """Also where the weight is zero: a wiring rule may need it there."""
    weight, x, grad = problem(0.1)
    w = weight.clone().requires_grad_()
    EdgeProduct(w, sparse=True)(x).backward(grad)
    assert w.grad is not None
    expected = torch.einsum("bohw,bihw->oi", grad.double(), x.double())
    assert torch.allclose(w.grad.double(), expected, atol=1e-4)
    assert int((w.grad != 0).sum()) == w.numel()


def test_bf16_rounds_the_operands_of_the_dense_product_only() -> None:
    """Under autocast the sparse way is exact forward, and dW is the product of rounded operands."""
    weight, x, grad = problem(0.1)
    w = weight.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = EdgeProduct(w, sparse=True)(x)
    y.backward(grad)
    assert y.dtype == torch.float32
    assert torch.allclose(y.double(), torch.einsum("oi,bihw->bohw", weight.double(), x.double()), atol=1e-5)
    assert w.grad is not None
    expected = torch.einsum("bohw,bihw->oi", grad.bfloat16().double(), x.bfloat16().double())
    assert torch.allclose(w.grad.double(), expected, rtol=2**-7, atol=1e-5)  # the sum itself is rounded once


def test_choice_follows_density() -> None:
    """Few edges: sparse; many: dense; float64: dense."""
    assert EdgeProduct(problem(0.05)[0])._forward_csr is not None
    assert EdgeProduct(problem(0.9)[0])._forward_csr is None
    assert EdgeProduct(problem(0.05)[0].double())._forward_csr is None


@pytest.mark.parametrize("channel_major", [False, True])
def test_node_norm_is_instance_norm(channel_major: bool) -> None:
    """In both memory orders, PyTorch's own instance norm."""
    x = torch.randn(4, 6, 8, 8)
    weight, bias = torch.randn(6), torch.randn(6)
    expected = torch.nn.functional.instance_norm(x, weight=weight, bias=bias)
    if channel_major:
        x = x.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3)
    assert torch.allclose(node_norm(x, weight, bias), expected, atol=1e-5)
