"""Channel-major order changes no number: its convolution and its edges against PyTorch's own."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.models.layers.channel_major import StackedEdges, _SortedEdges, node_operations, toeplitz


@pytest.mark.parametrize("side", [2, 3, 4, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_toeplitz_is_the_convolution(side: int, stride: int) -> None:
    """One matrix a channel gives what a depthwise convolution gives."""
    generator = torch.Generator().manual_seed(side)
    kernel = torch.randn(5, 1, 3, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(7, 5, side, side, generator=generator, dtype=torch.float64)
    expected = F.conv2d(x, kernel, stride=stride, padding=1, groups=5)
    found = torch.bmm(x.transpose(0, 1).reshape(5, 7, -1), toeplitz(kernel, side, stride))
    torch.testing.assert_close(found.view(5, 7, *expected.shape[2:]).transpose(0, 1), expected)


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (7, 2), (4, 1), (2, 1)])
def test_node_operations_are_norm_relu_convolution(side: int, stride: int) -> None:
    """Values, gradients and running statistics."""
    generator = torch.Generator().manual_seed(1)
    received = torch.randn(6, 5, side, side, generator=generator, dtype=torch.float64)
    found = []
    for channel_major in (False, True):
        torch.manual_seed(3)
        norm = nn.BatchNorm2d(5).double()
        conv = nn.Conv2d(5, 5, 3, stride=stride, padding=1, groups=5, bias=False).double()
        x = received.clone().requires_grad_()
        y = node_operations(x.transpose(0, 1), norm, conv).transpose(0, 1) if channel_major else conv(F.relu(norm(x)))
        (y**3).sum().backward()
        found.append((y.detach(), x.grad, conv.weight.grad, norm.weight.grad, norm.running_mean, norm.running_var))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def stacked(weight: Tensor, sent: list[Tensor], group_size: int) -> Tensor:
    """What the last group receives when every group sends its part, scaled by what it received."""
    edges = StackedEdges(weight, group_size, sent[0].shape[1])
    token = edges.token(weight)
    parts: list[Tensor] = []
    received = torch.zeros(())
    for group, own in enumerate(sent):
        parts.append(own if group == 0 else own * received)
        received = edges.receive(token, group, parts)
    return received


def plainly(weight: Tensor, sent: list[Tensor], group_size: int) -> Tensor:
    """The same with dense products and autograd alone."""
    parts: list[Tensor] = []
    received = torch.zeros(())
    for group, own in enumerate(sent):
        parts.append(own if group == 0 else own * received)
        stack = torch.cat(parts)
        received = weight[group * group_size : (group + 1) * group_size, : stack.shape[0]] @ stack
    return received


@pytest.mark.parametrize(("density", "dtype"), [(0.1, torch.float32), (0.6, torch.float32), (0.3, torch.float64)])
def test_stacked_edges_match_dense_products(density: float, dtype: Any) -> None:
    """Sparse and dense way: sums, the gradient of what was sent, and the weight's at every usable slot."""
    generator = torch.Generator().manual_seed(7)
    mask = torch.rand(18, 16, generator=generator) < density
    start = torch.randn(18, 16, generator=generator, dtype=dtype) * mask
    maps = [torch.randn(size, 11, generator=generator, dtype=dtype) for size in (4, 6, 6)]
    found = []
    for compute in (stacked, plainly):
        weight = start.clone().requires_grad_()
        sent = [part.clone().requires_grad_() for part in maps]
        y = compute(weight, sent, 6)
        (y * (y + 1)).sum().backward()
        found.append((y.detach(), weight.grad, *(part.grad for part in sent)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    gradient = found[0][1]
    assert gradient is not None
    assert bool((gradient[12:, :4] != 0).all())  # slots without an edge, too
    assert bool((gradient[:6, 4:] == 0).all())  # never read


def test_an_edge_at_a_slot_that_is_never_read_changes_nothing() -> None:
    """DNW may keep such edges (Q1): a group never receives from itself or from later ones."""
    weight = torch.zeros(12, 8)
    weight[0, 0] = weight[7, 5] = 1.0
    sent = [torch.ones(2, 3), torch.ones(6, 3)]
    before = stacked(weight, sent, 6)
    weight[0, 2] = weight[3, 7] = 5.0  # the first group from its own nodes
    torch.testing.assert_close(stacked(weight, sent, 6), before)


def test_the_sparse_matrices_are_cut_exactly() -> None:
    """Each is the slice it stands for, and its transpose: nothing of the next column, nothing of the next row."""
    weight = torch.arange(1.0, 97.0).view(12, 8)
    edges = _SortedEdges(weight)
    for rows, senders in ((slice(0, 6), 2), (slice(6, 12), 8)):
        cut = weight[rows, :senders]
        matrix, transposed = edges.csr(rows, senders), edges.csr_transposed(rows, senders)
        assert (int(matrix.col_indices().max()), int(transposed.col_indices().max())) == (senders - 1, 5)
        assert torch.equal(matrix.to_dense(), cut)
        assert torch.equal(transposed.to_dense(), cut.t())


def test_a_step_leaves_nothing_behind() -> None:
    """Once its loss is gone, a pass is freed at once: no circle waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        weight = torch.randn(12, 8, requires_grad=True)
        edges = StackedEdges(weight, 6, 3)
        left = weakref.ref(edges)
        sent = [torch.randn(2, 3, requires_grad=True), torch.randn(6, 3)]
        token = edges.token(weight)
        first = edges.receive(token, 0, sent[:1])
        loss = edges.receive(token, 1, [sent[0], sent[1] * first]).sum()
        loss.backward()
        del edges, token, first, loss
        assert left() is None
    finally:
        gc.enable()


def test_without_gradients_nothing_is_kept() -> None:
    """Evaluation: no graph, the same numbers."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 8, generator=generator)
    sent = [torch.randn(2, 3, generator=generator), torch.randn(6, 3, generator=generator)]
    with torch.no_grad():
        y = stacked(weight, sent, 6)
    assert not y.requires_grad
    torch.testing.assert_close(y, plainly(weight, sent, 6))
