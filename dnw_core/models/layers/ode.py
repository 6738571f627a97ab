"""Integrating dZ/dt = field(Z) from 0 to 1 by torchdiffeq's dopri5, with exact gradients in little memory.

Forward: torchdiffeq solves without recording anything, and tells which steps it accepted. Backward: the accepted steps
are taken again, this time recorded, a cache-sized piece of the batch at a time, and back-propagated through (plain
back-propagation of the discrete solution, no adjoint equation). Memory is that of one piece, however many
evaluations the solver needed.

The gradient does not flow through the *choice* of the steps. torchdiffeq, left to itself, lets it flow through the
first step's size; the solution depends on that only within the tolerance (docs/deviations.md has the measured size).

``clamp_ends`` is what a field with an in-place ReLU does to torchdiffeq's dopri5. The tensor of a step's sixth and last
stage *is* the state that the step ends on, and the field is handed that very tensor. Clamped there, it is clamped for
the error control (whether or not the step is then accepted), for the interpolation and as the start of the next step.
The tensors of the other stages live for that stage alone, and a field that begins with a ReLU sees no clamp there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dnw_core.models.layers.kernels import in_pieces
from dnw_core.wiring.transforms import never_compiled

Field = Callable[[Tensor], Tensor]
PrepareField = Callable[..., Field]

STAGES = 6  # of a dopri5 step; its first slope is the one at the last step's end


@dataclass(frozen=True)
class AcceptedStep:
    """A step that the solver accepted: from ``t`` over ``dt``."""

    t: float
    dt: float


class _Recorder:
    """The right-hand side as torchdiffeq calls it; notes accepted steps, counts evaluations, clamps steps' ends."""

    def __init__(self, field: Field, nodes: int, *, clamp_ends: bool) -> None:
        self.field = field
        self.nodes = nodes
        self.clamp_ends = clamp_ends
        self.evaluations = 0
        self.steps: list[AcceptedStep] = []
        self._stage = 0  # of the present step; before the first one two slopes are asked for

    def __call__(self, t: Tensor, state_bchw: Tensor) -> Tensor:
        self.evaluations += 1
        self._stage += 1
        if self.clamp_ends and self._stage == STAGES:
            torch.relu_(state_bchw)  # in place: the solver goes on from this tensor
        pieces = in_pieces(state_bchw, self.nodes)
        if len(pieces) == 1:
            return self.field(state_bchw)
        slope_bchw = torch.empty_like(state_bchw)
        for into, piece in zip(in_pieces(slope_bchw, self.nodes), pieces, strict=True):
            into.copy_(self.field(piece))
        return slope_bchw

    def callback_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Called by torchdiffeq before the stages of each step that it tries."""
        self._stage = 0

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        """Called by torchdiffeq after the stages of a step that it keeps."""
        self.steps.append(AcceptedStep(float(t0), float(dt)))


@torch.no_grad()
def solve(
    field: Field, start: Tensor, *, rtol: float, atol: float, clamp_ends: bool = False
) -> tuple[Tensor, list[AcceptedStep], int]:
    """Return Z(1), the accepted steps and the number of evaluations, without recording gradients."""
    from torchdiffeq import odeint  # here, as below: it imports SciPy's solvers, which few trials need

    recorder = _Recorder(field, start.shape[1], clamp_ends=clamp_ends)
    times = torch.tensor([0.0, 1.0], dtype=start.dtype, device=start.device)
    solution = odeint(recorder, start, times, rtol=rtol, atol=atol, method="dopri5")
    return solution[-1], recorder.steps, recorder.evaluations


def replay(field: Field, start: Tensor, steps: list[AcceptedStep], *, clamp_ends: bool = False) -> Tensor:
    """Take the given dopri5 steps and interpolate to t = 1, as torchdiffeq does; differentiable."""
    from torchdiffeq._impl.dopri5 import DPS_C_MID

    state, slope = start, field(start)
    for step in steps[:-1]:
        state, slope, _ = _dopri5_step(field, state, slope, step.dt, clamp_ends)
    last = steps[-1]
    end, end_slope, slopes = _dopri5_step(field, state, slope, last.dt, clamp_ends)
    x = (1.0 - last.t) / last.dt
    if x == 1.0:
        return end
    middle = _combine(state, slopes, [last.dt * c for c in DPS_C_MID.tolist()])
    # the quartic through both ends, their slopes and the middle, written out in x; the middle is never clamped
    x2, x3, x4 = x * x, x**3, x**4
    value = state * (1 - 11 * x2 + 18 * x3 - 8 * x4)
    value = value.add(end, alpha=-5 * x2 + 14 * x3 - 8 * x4)
    value = value.add(middle, alpha=16 * x2 - 32 * x3 + 16 * x4)
    value = value.add(slope, alpha=last.dt * (x - 4 * x2 + 5 * x3 - 2 * x4))
    return value.add(end_slope, alpha=last.dt * (x2 - 3 * x3 + 2 * x4))


def _dopri5_step(
    field: Field, state: Tensor, slope: Tensor, dt: float, clamp_end: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """One Dormand-Prince step: the new state, its slope (reused as the next first slope), all seven slopes."""
    from torchdiffeq._impl.dopri5 import Dopri5Solver

    slopes = [slope]
    end = state
    for stage, row in enumerate(Dopri5Solver.tableau.beta, start=1):
        end = _combine(state, slopes, [dt * b for b in row.tolist()])
        if clamp_end and stage == STAGES:
            end = end.relu()
        slopes.append(field(end))
    return end, slopes[-1], slopes


def _combine(state: Tensor, slopes: list[Tensor], factors: list[float]) -> Tensor:
    for slope, factor in zip(slopes, factors, strict=True):
        if factor != 0.0:
            state = state.add(slope, alpha=factor)
    return state


class _Integrate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        prepare: PrepareField,
        rtol: float,
        atol: float,
        clamp_ends: bool,
        evaluations: list[int],
        start: Tensor,
        *params: Tensor,
    ) -> Tensor:
        end, steps, count = solve(prepare(*params), start, rtol=rtol, atol=atol, clamp_ends=clamp_ends)
        evaluations.append(count)
        ctx.save_for_backward(start, *params)
        ctx.prepare, ctx.steps, ctx.clamp_ends = prepare, steps, clamp_ends
        device = start.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return end

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        start, *params = ctx.saved_tensors
        nodes = start.shape[1]
        leaves = [param.detach().requires_grad_() for param in params]
        grad_start = torch.empty_like(start)
        device, dtype, enabled = ctx.autocast
        pieces = zip(*(in_pieces(whole, nodes) for whole in (start, grads[0], grad_start)), strict=True)
        with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
            field = ctx.prepare(*leaves)
            for piece, grad_end, into in pieces:
                piece = piece.detach().requires_grad_()
                end = replay(field, piece, ctx.steps, clamp_ends=ctx.clamp_ends)
                torch.autograd.backward(end, grad_end)
                assert piece.grad is not None
                into.copy_(piece.grad)
        return (None, None, None, None, None, grad_start, *(leaf.grad for leaf in leaves))


# the solver decides by values, so its steps are not one traceable graph
@never_compiled
def integrate(
    prepare: PrepareField,
    start: Tensor,
    params: tuple[Tensor, ...],
    *,
    rtol: float,
    atol: float,
    clamp_ends: bool = False,
) -> tuple[Tensor, int]:
    """Return Z(1), differentiable in ``start`` and ``params``, and the number of evaluations of the forward solve.

    Args:
        prepare: makes the right-hand side from ``params``.
        start: Z(0), [batch, nodes, height, width], float32 or float64.
        params: tensors that the right-hand side depends on.
        rtol: relative tolerance of the step control, over the whole batch.
        atol: absolute tolerance.
        clamp_ends: clamp the state that each step ends on at zero, as a field with an in-place ReLU does; Z(0) is the
            caller's to clamp.
    """
    evaluations: list[int] = []
    end: Tensor = _Integrate.apply(prepare, rtol, atol, clamp_ends, evaluations, start, *params)
    return end, evaluations[0]
