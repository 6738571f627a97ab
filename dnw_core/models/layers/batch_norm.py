"""Batch norm that is as exact in channels-last order on a CPU as PyTorch's own is in the contiguous order.

PyTorch adds up contiguous maps in float64, but channels-last ones in float32, one by one over all rows (images times
pixels) of a thread's share: the statistics of the forward pass, and the two sums of the backward pass. The error grows
with the rows and depends on the threads; ``findings/channels_last_batch_norm.sh`` shows it. Here PyTorch's kernels get
only so many rows at a time that their sums stay exact, and what they find is put together in float64.

Shapes: r rows (images times pixels, in channels-last order), c channels. Where channels are few, several consecutive
rows are read as one *wide* row, [r / wide, wide * c]: the same memory, shorter sums, fuller vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from dnw_core.wiring.transforms import differentiating_by_transform

EXACT_ROWS = 512  # rows that PyTorch's float32 sums are left to go over: little to gain, and calls cost most there
LEAST_WIDE_ROWS = 128  # that are left where rows are read as wide ones
LONGEST_SUM = 256  # rows, wide or not, that a thread's float32 sum of squares goes over
WIDE_ROW = 1024  # floats, there; LONGEST_SUM of them take 1 MB, which the cache keeps from one pass to the next
LONGEST_GRADIENT_SUM = 1024  # rows; terms of both signs may be added up for longer
WIDE_GRADIENT_ROW = 512  # floats; this kernel keeps four such rows at hand
NARROW_ROW = 128  # floats: torch.sum is twice as fast over such rows


class BatchNorm2d(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` in every respect, with exact sums over float32 maps in channels-last order on a CPU.

    Anything else (other orders, devices and types, evaluation, compilation, ``torch.func``) is PyTorch's own, and so
    are maps of so few rows that its sums are exact enough.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised maps, [b, c, h, w]; in training, move the running statistics as PyTorch does.

        Raises:
            ValueError: if the input has not four dimensions, or in training but one value a channel.
        """
        if not self._sums_here(input):
            return super().forward(input)
        made = _BatchNorm.apply(input, self.weight, self.bias, self.eps)
        maps, mean, variance = cast(tuple[Tensor, Tensor, Tensor], made)
        if self.training and self.track_running_stats:
            rows = input.numel() // self.num_features
            self._move_statistics(mean, variance * (rows / (rows - 1)))
        return maps

    def _sums_here(self, maps: Tensor) -> bool:
        """Whether maps are normalised by their own statistics, which PyTorch would sum up inexactly."""
        by_own_statistics = self.training or (self.running_mean is None and self.running_var is None)
        return (
            by_own_statistics
            and not torch.compiler.is_compiling()
            and torch._C._get_tracing_state() is None
            and not differentiating_by_transform()
            and type(maps) is Tensor
            and maps.dim() == 4
            and maps.shape[1] == self.num_features
            and maps.numel() > EXACT_ROWS * self.num_features
            and _channels_last(maps)
            and all(x is None or _plain(x) for x in (maps, self.weight, self.bias, self.running_mean, self.running_var))
        )

    def _move_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # a cumulative mean
            share = 0.0 if self.num_batches_tracked is None else 1.0 / float(self.num_batches_tracked)
        for kept, new in ((self.running_mean, mean), (self.running_var, variance)):
            if kept is not None:
                kept.mul_(1 - share).add_(new, alpha=share)


def take_over_norms(network: nn.Module) -> None:
    """Turn the ``torch.nn.BatchNorm2d`` of a network that others built into ours: the same parameters and buffers."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = BatchNorm2d


def _channels_last(maps: Tensor) -> bool:
    """Whether PyTorch takes its channels-last kernel: for maps of one pixel also where they are contiguous."""
    if not maps.is_contiguous(memory_format=torch.channels_last):
        return False
    return maps.shape[2:].numel() == 1 or not maps.is_contiguous()


def _plain(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


class _BatchNorm(torch.autograd.Function):
    """Maps normalised by their own statistics, and these statistics: mean and (biased) variance."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        made = torch.empty_like(maps)  # before anything small that would lie in the memory it could have had
        read = _Rows(maps, WIDE_ROW, LONGEST_SUM)
        cut = read.cut(maps)
        mean, variance = statistics(read, cut)
        scale = torch.rsqrt(variance + eps)
        ctx.eps = eps
        ctx.save_for_backward(maps, weight, mean.float(), scale.float())
        factor = scale if weight is None else scale * weight
        shift = mean * -factor if bias is None else bias - mean * factor
        (factor, shift), (factor_w, shift_w) = read.for_rows(factor, shift)
        outs = read.cut(made)
        for out, x in reversed(list(zip(outs.pieces, cut.pieces, strict=True))):  # the last is still in the cache
            torch.addcmul(shift_w, x, factor_w, out=out)
        if read.over:
            torch.addcmul(shift, cut.over, factor, out=outs.over)
        mean, variance = mean.float(), variance.float()
        ctx.mark_non_differentiable(mean, variance)
        return made, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        maps, weight, mean, scale = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted: PyTorch's own has one
            of_maps, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                grads[0], maps, weight, None, None, mean, scale, True, ctx.eps, wanted
            )
            return of_maps, of_weight, of_bias, None
        of_maps = torch.empty_like(maps) if wanted[0] else None  # first, as above
        read = _Rows(maps, WIDE_GRADIENT_ROW, LONGEST_GRADIENT_SUM)
        grad = read.cut(grads[0].contiguous(memory_format=torch.channels_last))
        cut = read.cut(maps)
        sums = gradient_sums(read, grad, cut, mean, scale)
        if of_maps is not None:
            of_grad = scale.double() if weight is None else scale.double() * weight
            write_gradient(read, read.cut(of_maps), grad, cut, (of_grad, mean, scale), sums)
        of_weight, of_bias = (found.float() if one else None for found, one in zip(sums, wanted[1:], strict=True))
        return of_maps, of_weight, of_bias, None


class _Cut(NamedTuple):
    """Views of the memory of maps."""

    pieces: tuple[Tensor, ...]  # [n, wide * c] each
    over: Tensor  # [n, c], n less than wide


class _Rows:
    """How maps are read: rows of memory, ``wide`` of them as one; the last few, less than ``wide``, are over.

    Args:
        maps: of this shape and order.
        width: floats of a wide row at most.
        longest: rows of a piece, for each thread.
    """

    def __init__(self, maps: Tensor, width: int, longest: int) -> None:
        self.channels = maps.shape[1]
        self.count = maps.numel() // self.channels
        self.wide = max(1, min(width // self.channels, self.count // LEAST_WIDE_ROWS))
        self.over = self.count % self.wide
        self.height = longest * torch.get_num_threads()  # one piece for all threads: they need not meet as often
        narrow = self.channels * max(1, NARROW_ROW // self.channels)
        self.narrow = self.channels if self.wide * self.channels % narrow else narrow

    def cut(self, maps: Tensor) -> _Cut:
        """Return the pieces of maps, or of what has their shape and order, and what is over."""
        rows = maps.permute(0, 2, 3, 1).view(self.count, self.channels)
        whole = rows[: self.count - self.over].view(-1, self.wide * self.channels)
        return _Cut(torch.split(whole, self.height), rows[self.count - self.over :])

    def sums(self, piece: Tensor) -> Tensor:
        """Return sums of a piece's rows, [n, c], still to be added up. Exact however many the rows: torch.sum's are."""
        return piece.view(-1, self.narrow).sum(0).view(-1, self.channels)

    def for_rows(self, *of_channels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of channels in float32, [k, c], and what they are along a wide row, [k, wide * c]."""
        values = torch.stack(of_channels).float()
        return values, values if self.wide == 1 else values.repeat(1, self.wide)


def statistics(read: _Rows, cut: _Cut) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of each channel, [c] each, in float64."""
    sums, means, variances = [], [], []
    for piece in cut.pieces:
        mean, variance = torch.batch_norm_update_stats(piece, None, None, 0.0)
        means.append(mean)
        variances.append(variance)
        sums.append(read.sums(piece))  # after the kernel, which brought the piece into the cache
    total = torch.cat(sums).sum(0, dtype=torch.float64)
    if read.over:
        total += cut.over.sum(0, dtype=torch.float64)
    mean = total / read.count
    # of each sum of squares the kernel knows the mean that it went around; float32 does for what that adds
    squares = torch.stack(means).view(len(means), -1, read.channels).sub_(mean.float()).square_()
    squares += torch.stack(variances).view_as(squares)
    squares *= torch.tensor([float(len(piece)) for piece in cut.pieces]).view(-1, 1, 1)
    square = squares.sum((0, 1), dtype=torch.float64)
    if read.over:
        square += (cut.over - mean).square_().sum(0)
    return mean, square / read.count


def gradient_sums(read: _Rows, grad: _Cut, cut: _Cut, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return, in float64, the sums over all rows of gradient times normalised map, and of the gradient, [c] each."""
    _, (mean_w, scale_w) = read.for_rows(mean, scale)
    found = [
        torch.ops.aten.native_batch_norm_backward(
            dy, x, None, None, None, mean_w, scale_w, True, 0.0, (False, True, True)
        )
        for dy, x in zip(grad.pieces, cut.pieces, strict=True)
    ]
    by_maps, alone = (
        torch.cat([one[index] for one in found]).view(-1, read.channels).sum(0, dtype=torch.float64) for index in (1, 2)
    )
    if read.over:
        by_maps += (grad.over * (cut.over.double() - mean)).sum(0) * scale
        alone += grad.over.sum(0, dtype=torch.float64)
    return by_maps, alone


def write_gradient(
    read: _Rows,
    made: _Cut,
    grad: _Cut,
    cut: _Cut,
    channels: tuple[Tensor, Tensor, Tensor],
    sums: tuple[Tensor, Tensor],
) -> None:
    """Write the maps' gradient: factor * (gradient - its mean - normalised map * mean of their product).

    Args:
        read: how all of these are read.
        made: of what is written.
        grad: of the gradient of the normalised maps.
        cut: of the maps.
        channels: each one's factor (weight over standard deviation), mean, and scale (one over standard deviation).
        sums: as ``gradient_sums`` returns them.
    """
    of_grad, mean, scale = channels
    of_maps = of_grad * scale * sums[0] / -read.count
    constant = of_grad * sums[1] / -read.count - of_maps * mean
    (a, b, c), (a_w, b_w, c_w) = read.for_rows(of_grad, of_maps, constant)
    for out, dy, x in zip(made.pieces, grad.pieces, cut.pieces, strict=True):
        torch.addcmul(c_w, x, b_w, out=out).addcmul_(dy, a_w)
    if read.over:
        torch.addcmul(c, cut.over, b, out=made.over).addcmul_(grad.over, a)
