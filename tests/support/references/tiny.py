"""The tiny networks written once more, plainly and in float64, from facts 1.2 to 1.5: the tests' yardstick.

Shares no code with ``dnw_core``: convolutions are loops over the nine taps, norms are means and variances, the graph
is a dense product with the masked matrix, node by node in the static case.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def convolve(maps: Tensor, kernels: Tensor, stride: int = 1) -> Tensor:
    """3x3 with zero padding 1; kernels [out, in, 3, 3], or [c, 1, 3, 3] for one kernel a map."""
    batch, channels, height, width = maps.shape
    padded = maps.new_zeros(batch, channels, height + 2, width + 2)
    padded[:, :, 1:-1, 1:-1] = maps
    depthwise = kernels.shape[1] == 1
    out = 0
    for dy in range(3):
        for dx in range(3):
            shifted = padded[:, :, dy : dy + height, dx : dx + width]
            tap = kernels[:, :, dy, dx]
            term = shifted * tap[:, 0].view(1, -1, 1, 1) if depthwise else torch.einsum("oi,bihw->bohw", tap, shifted)
            out = out + term
    assert isinstance(out, Tensor)
    return out[:, :, ::stride, ::stride]


def normalise_batch(maps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Batch norm in training mode."""
    mean = maps.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((maps - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def normalise_instance(maps: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Instance norm."""
    mean = maps.mean(dim=(2, 3), keepdim=True)
    variance = ((maps - mean) ** 2).mean(dim=(2, 3), keepdim=True)
    return (maps - mean) / (variance + 1e-5).sqrt() * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


def stem(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """Convolution, batch norm, ReLU, depthwise convolution, 1x1 convolution, batch norm."""

    def bias(name: str) -> Tensor:
        return p[f"stem.{name}.bias"].view(1, -1, 1, 1)

    x = convolve(images, p["stem.0.weight"], stride=2) + bias("0")
    x = normalise_batch(x, p["stem.1.weight"], p["stem.1.bias"]).clamp(min=0)
    x = convolve(x, p["stem.3.weight"], stride=2) + bias("3")
    x = torch.einsum("oi,bihw->bohw", p["stem.4.weight"][:, :, 0, 0], x) + bias("4")
    return normalise_batch(x, p["stem.5.weight"], p["stem.5.bias"])


def read_out(p: dict[str, Tensor], outputs: Tensor, first_row: int) -> Tensor:
    """Mean over the 2x2 patch from ``first_row``, then the linear layer."""
    patch = outputs[:, :, first_row : first_row + 2, first_row : first_row + 2]
    return patch.mean(dim=(2, 3)) @ p["classifier.weight"].T + p["classifier.bias"]


def slope(p: dict[str, Tensor], edges: Tensor, state: Tensor, *, in_place: bool = False) -> Tensor:
    """ReLU (which may overwrite the state), node operation, edges, norm: one step of the dynamic settings."""
    maps = convolve(state.relu_() if in_place else state.relu(), p["node_op.weight"])
    return normalise_instance(torch.einsum("oi,bihw->bohw", edges, maps), p["norm_weight"], p["norm_bias"])


def start_state(p: dict[str, Tensor], images: Tensor, nodes: int) -> Tensor:
    """The stem's maps, then zeros."""
    inputs = stem(p, images)
    batch, channels, height, width = inputs.shape
    return torch.cat([inputs, inputs.new_zeros(batch, nodes - channels, height, width)], dim=1)


def discrete(p: dict[str, Tensor], edges: Tensor, images: Tensor, *, steps: int, outputs: int, row: int) -> Tensor:
    """The state is replaced at each step."""
    state = start_state(p, images, len(edges))
    for _ in range(steps):
        state = slope(p, edges, state)
    return read_out(p, state[:, -outputs:], row)


def static(p: dict[str, Tensor], edges: Tensor, images: Tensor, *, bounds: list[int], outputs: int, row: int) -> Tensor:
    """Block after block; each block's nodes send to all later nodes, at the latest to the outputs."""
    nodes = len(edges)
    state = start_state(p, images, nodes)
    for start, stop in pairwise(bounds):
        own = slice(start, stop)
        maps = normalise_instance(state[:, own], p["norm_weight"][own], p["norm_bias"][own]).clamp(min=0)
        maps = convolve(maps, p["node_op.weight"][own])
        state = state.clone()
        for receiver in range(min(stop, nodes - outputs), nodes):
            sent = (edges[receiver, own].view(1, -1, 1, 1) * maps).sum(dim=1)
            state[:, receiver] = state[:, receiver] + sent
    return read_out(p, state[:, -outputs:], row)


def continuous(
    p: dict[str, Tensor], edges: Tensor, images: Tensor, *, outputs: int, row: int, steps: int = 400
) -> Tensor:
    """Integrated by the classical Runge-Kutta method on a fine fixed grid: the true Z(1), not dopri5's; no clamps."""
    state = start_state(p, images, len(edges))
    dt = 1.0 / steps
    for _ in range(steps):
        a = slope(p, edges, state)
        b = slope(p, edges, state + dt / 2 * a)
        c = slope(p, edges, state + dt / 2 * b)
        d = slope(p, edges, state + dt * c)
        state = state + dt / 6 * (a + 2 * b + 2 * c + d)
    return read_out(p, state[:, -outputs:], row)


class Solver:
    """torchdiffeq's own dopri5 with a ReLU that works in place, as the released code's does, or on a copy.

    Attributes:
        accepted: start and size of the steps that it kept.
        rejected: the same of those that it did not.
    """

    def __init__(self, p: dict[str, Tensor], edges: Tensor, *, in_place: bool) -> None:
        self.p, self.edges, self.in_place = p, edges, in_place
        self.accepted: list[tuple[float, float]] = []
        self.rejected: list[tuple[float, float]] = []

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        """The right-hand side."""
        return slope(self.p, self.edges, state, in_place=self.in_place)

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Called by torchdiffeq."""
        self.accepted.append((float(t0.detach()), float(dt.detach())))

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Called by torchdiffeq."""
        self.rejected.append((float(t0.detach()), float(dt.detach())))

    def logits(self, images: Tensor, *, rtol: float, atol: float, outputs: int, row: int) -> Tensor:
        """The whole network, recorded by autograd from end to end."""
        from torchdiffeq import odeint

        start = start_state(self.p, images, len(self.edges))
        times = torch.tensor([0.0, 1.0], dtype=start.dtype)
        end = odeint(self, start, times, rtol=rtol, atol=atol, method="dopri5")[-1]
        return read_out(self.p, end[:, -outputs:], row)
