"""Node operations and edges in channel-major order, [c, b, h, w], for small maps on a CPU.

Sparse products want one row a channel; where the maps are small enough, so can everything else: batch norm then works
on whole rows, and a 3x3 convolution is one small matrix a channel (its kernel laid out as a Toeplitz matrix of the
map's pixels). A block in this order is transposed once, as it begins, and never inside (figures:
``benchmarks/training_step.py``).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.models.layers.edges import SPARSE_BELOW_DENSITY, no_beta_warning

LARGEST_SIDE = 8  # pixels; a map of n pixels costs n multiply-adds a value instead of 9


def node_operations(received_cbhw: Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> Tensor:
    """Batch norm, ReLU and each channel's own 3x3 convolution, [c, b, h / stride, w / stride]; in float32."""
    channels, images, side, _ = received_cbhw.shape
    with torch.autocast("cpu", enabled=False):
        rows = received_cbhw.reshape(1, channels, -1, 1)
        maps_cbp = F.relu(norm(rows), inplace=True).view(channels, images, -1)
        sent_cbp = torch.bmm(maps_cbp, toeplitz(conv.weight, side, conv.stride[0]))
    out = -(-side // conv.stride[0])
    return sent_cbp.view(channels, images, out, out)


def toeplitz(kernel_c1kk: Tensor, side: int, stride: int) -> Tensor:
    """Return each channel's 3x3 convolution (padding 1) as a matrix from input to output pixels, [c, side², out²]."""
    channels = kernel_c1kk.shape[0]
    places = _places(side, stride, kernel_c1kk.dtype)
    matrix = kernel_c1kk.view(channels, 9) @ places
    return matrix.view(channels, side * side, -1)


@functools.lru_cache(maxsize=16)
def _places(side: int, stride: int, dtype: torch.dtype) -> Tensor:
    """For each of the 9 kernel entries, which pairs of input and output pixel it joins, [9, side² · out²]."""
    pixels = torch.eye(side * side, dtype=dtype).view(side * side, 1, side, side)
    shifts = torch.eye(9, dtype=dtype).view(9, 1, 3, 3)
    with torch.autocast("cpu", enabled=False):
        joined = F.conv2d(pixels, shifts, stride=stride, padding=1)  # [input pixel, entry, out, out]
    return joined.flatten(2).transpose(0, 1).reshape(9, -1)


class StackedEdges:
    """The edges of one block for one pass: every group receives from the stack of all that have sent before it.

    Forward and input gradient touch kept edges only, where few are kept; the weight's gradient is dense, since a wiring
    rule may need it at every slot (DNW does). It is put together in one buffer and handed to the weight once.

    Args:
        weight_rs: effective weight, [receivers, senders].
        group_size: receivers of a group, and senders of all groups but the first.
        pixels: columns of a channel: images times pixels.
    """

    def __init__(self, weight_rs: Tensor, group_size: int, pixels: int) -> None:
        receivers, senders = weight_rs.shape
        self.group_size = group_size
        self.inputs = senders - (receivers - group_size)
        self.weight = weight_rs.detach()
        self.stack_sp = weight_rs.new_empty(senders, pixels)
        self.low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        self.stack_low: Tensor | None = None  # rounded once, for the weight's gradient
        self.gradient_rs: Tensor | None = None
        sparse = int(torch.count_nonzero(self.weight)) < SPARSE_BELOW_DENSITY * self.weight.numel()
        self._edges = _SortedEdges(self.weight) if sparse and self.weight.dtype == torch.float32 else None

    def token(self, weight_rs: Tensor) -> Tensor:
        """Return what stands for the weight in ``receive``: its gradient reaches the weight once, from all groups.

        The caller keeps it. Kept here it would close a circle through autograd, and every step's maps would stay in
        memory until Python looks for circles.
        """
        token: Tensor = _Collect.apply(weight_rs, self)
        return token

    def receive(self, token: Tensor, group: int, sent_cp: list[Tensor]) -> Tensor:
        """Return what receiving group ``group`` gets from the groups that have sent so far, [group_size, pixels].

        Args:
            token: of this pass.
            group: the receiving group, counted from 0.
            sent_cp: what groups 0 to ``group`` sent, oldest first; all but the last were given before.
        """
        start = self.senders(group) - sent_cp[-1].shape[0]
        self.stack_sp[start : self.senders(group)] = sent_cp[-1].detach()
        with torch.autocast("cpu", enabled=False):  # what is rounded is said in this file
            y: Tensor = _Receive.apply(token, self, group, *sent_cp)
        return y

    def senders(self, group: int) -> int:
        """How many nodes have sent when ``group`` receives."""
        return self.inputs + group * self.group_size

    def rows(self, group: int) -> slice:
        """The group's rows."""
        return slice(group * self.group_size, (group + 1) * self.group_size)

    def product(self, group: int) -> Tensor:
        """Effective weight times stack."""
        stack = self.stack_sp[: self.senders(group)]
        if self._edges is not None:
            return torch.mm(self._edges.csr(self.rows(group), self.senders(group)), stack)
        return self._dense(self.weight[self.rows(group), : self.senders(group)], stack)

    def product_transposed(self, group: int, grad_rp: Tensor) -> Tensor:
        """Effective weight, transposed, times a gradient."""
        if self._edges is not None:
            return torch.mm(self._edges.csr_transposed(self.rows(group), self.senders(group)), grad_rp)
        return self._dense(self.weight[self.rows(group), : self.senders(group)].t(), grad_rp)

    def add_gradient(self, group: int, grad_rp: Tensor) -> None:
        """Put the gradient of the group's rows in its place."""
        if self.gradient_rs is None:
            self.gradient_rs = torch.zeros_like(self.weight)
        place = self.gradient_rs[self.rows(group), : self.senders(group)]
        if self.low is None:
            torch.mm(grad_rp, self.stack_sp[: self.senders(group)].t(), out=place)
            return
        if self.stack_low is None:
            self.stack_low = self.stack_sp.to(self.low)
        place.copy_(torch.mm(grad_rp.to(self.low), self.stack_low[: self.senders(group)].t()))

    def _dense(self, left: Tensor, right: Tensor) -> Tensor:
        if self.low is None:
            return torch.mm(left, right)
        return torch.mm(left.to(self.low), right.to(self.low)).to(left.dtype)


class _SortedEdges:
    """The kept edges in row order, cut into one CSR matrix per group of rows, and its transpose."""

    def __init__(self, weight_rs: Tensor) -> None:
        self.rows, self.columns = weight_rs.nonzero(as_tuple=True)
        self.values = weight_rs[self.rows, self.columns]

    def _of(self, rows: slice, senders: int) -> tuple[Tensor, Tensor, Tensor]:
        first, last = torch.searchsorted(self.rows, torch.tensor([rows.start, rows.stop])).tolist()
        row, column, value = (part[first:last] for part in (self.rows, self.columns, self.values))
        read = column < senders  # a rule may keep edges at slots that are never read
        return row[read] - rows.start, column[read], value[read]

    def csr(self, rows: slice, senders: int) -> Tensor:
        """[rows, senders]."""
        row, column, value = self._of(rows, senders)
        return _csr(row, column, value, rows.stop - rows.start, senders)

    def csr_transposed(self, rows: slice, senders: int) -> Tensor:
        """[senders, rows]."""
        row, column, value = self._of(rows, senders)
        order = column.argsort(stable=True)
        return _csr(column[order], row[order], value[order], senders, rows.stop - rows.start)


def _csr(row: Tensor, column: Tensor, value: Tensor, height: int, width: int) -> Tensor:
    starts = torch.zeros(height + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(row, minlength=height), 0, out=starts[1:])
    with no_beta_warning():
        return torch.sparse_csr_tensor(starts, column, value, (height, width), check_invariants=False)


class _Collect(torch.autograd.Function):
    """Hands the weight its gradient once every product has put its part in place."""

    @staticmethod
    def forward(ctx: Any, weight_rs: Tensor, edges: StackedEdges) -> Tensor:
        ctx.edges = edges
        return weight_rs.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None]:
        gradient, ctx.edges.gradient_rs = ctx.edges.gradient_rs, None
        return gradient, None


class _Receive(torch.autograd.Function):
    """One group's sums over the stack of senders."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, edges: StackedEdges, group: int, *sent_cp: Tensor) -> Tensor:
        ctx.edges, ctx.group = edges, group
        ctx.sizes = [part.shape[0] for part in sent_cp]
        return edges.product(group)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_rp = grads[0].contiguous()
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                ctx.edges.add_gradient(ctx.group, grad_rp)
            stacked = ctx.edges.product_transposed(ctx.group, grad_rp) if any(ctx.needs_input_grad[3:]) else None
        parts = stacked.split(ctx.sizes) if stacked is not None else [None] * len(ctx.sizes)
        token = grad_rp.new_zeros(()) if ctx.needs_input_grad[0] else None
        return (token, None, None, *parts)
