"""The edges of a graph as a product: every receiver sums its senders' maps, pixel by pixel (a masked 1x1 convolution).

Two ways to the same numbers:

* dense, on any device: a 1x1 convolution with the masked weight;
* sparse, on a CPU when few edges are kept: forward and input gradient touch kept edges only; the weight's gradient
  stays dense, because a wiring rule may need it at every slot (DNW does).

Both give the gradient with respect to the *effective* weight; what of it reaches the dense one is the rule's affair.
Maps are logically [batch, channel, height, width]; the sparse way returns them in channel-major memory, which the
node norm and the next product read without a copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# near this share of kept edges MKL's two products are equally fast (800 x 800, 1,024 pixels, one core: 0.18)
SPARSE_BELOW_DENSITY = 0.2


class EdgeProduct:
    """The product with one (slice of an) effective weight, prepared once and applied to many batches.

    Args:
        weight_oi: effective weight, [receivers, senders]; gradients flow into it.
        sparse: force one of the two ways; None chooses by device and density.
    """

    def __init__(self, weight_oi: Tensor, *, sparse: bool | None = None) -> None:
        self.weight_oi = weight_oi
        if sparse is None:
            sparse = _sparse_pays(weight_oi)
        self._forward_csr: Tensor | None = None
        self._backward_csr: Tensor | None = None
        if sparse:
            values = weight_oi.detach()
            with no_beta_warning():
                self._forward_csr = values.to_sparse_csr()
                self._backward_csr = values.t().contiguous().to_sparse_csr()

    def __call__(self, x_bihw: Tensor) -> Tensor:
        """Return [batch, receivers, height, width]."""
        if self._forward_csr is None:
            return F.conv2d(x_bihw, self.weight_oi[:, :, None, None])
        y: Tensor = _SparseProduct.apply(self.weight_oi, x_bihw, self._forward_csr, self._backward_csr)
        return y


@contextmanager
def no_beta_warning() -> Iterator[None]:
    """Torch calls CSR a beta feature; what is used of it is checked against the dense way in the tests."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def _sparse_pays(weight_oi: Tensor) -> bool:
    if weight_oi.device.type != "cpu" or weight_oi.dtype != torch.float32:
        return False
    return int(torch.count_nonzero(weight_oi.detach())) < SPARSE_BELOW_DENSITY * weight_oi.numel()


class _SparseProduct(torch.autograd.Function):
    """y = W x with W in CSR; dW dense.

    MKL's sparse product knows no bf16: under autocast only the operands of the one dense product, dW, are rounded, and
    everything else is more exact than asked for.
    """

    @staticmethod
    def forward(ctx: Any, weight_oi: Tensor, x_bihw: Tensor, csr: Tensor, csr_t: Tensor) -> Tensor:
        batch, senders, height, width = x_bihw.shape
        x_ip = x_bihw.permute(1, 0, 2, 3).contiguous().view(senders, -1)
        ctx.low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        ctx.csr_t = csr_t
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x_ip if ctx.low is None else x_ip.to(ctx.low))
        with torch.autocast("cpu", enabled=False):
            y_op = torch.mm(csr, x_ip)
        return y_op.view(-1, batch, height, width).permute(1, 0, 2, 3)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None, None]:
        grad_bohw: Tensor = grads[0]
        batch, receivers, height, width = grad_bohw.shape
        grad_op = grad_bohw.permute(1, 0, 2, 3).contiguous().view(receivers, -1)
        grad_weight = grad_x = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                (x_ip,) = ctx.saved_tensors
                grad_weight = torch.mm(grad_op.to(x_ip.dtype), x_ip.t()).float()
            if ctx.needs_input_grad[1]:
                grad_x = torch.mm(ctx.csr_t, grad_op).view(-1, batch, height, width).permute(1, 0, 2, 3)
        return grad_weight, grad_x, None, None
