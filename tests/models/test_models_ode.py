"""Integration with recomputed gradients against torchdiffeq's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dnw_core.models.layers.ode import integrate, replay, solve


def prepare(matrix: Tensor) -> object:
    """A smooth nonlinear field on [batch, nodes, 2, 2]."""
    return lambda z: torch.tanh(torch.einsum("oi,bihw->bohw", matrix, z))


def prepare_rectified(matrix: Tensor) -> object:
    """The same behind a ReLU, for which alone clamped ends make sense."""
    return lambda z: torch.tanh(torch.einsum("oi,bihw->bohw", matrix, z.relu()))


def problem() -> tuple[Tensor, Tensor]:
    """A matrix and a start state."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 5, generator=generator, dtype=torch.float64) * 2
    start = torch.randn(4, 5, 2, 2, generator=generator, dtype=torch.float64)
    return matrix, start


def whole(matrix: Tensor, start: Tensor, tolerance: float, *, in_place: bool = False) -> Tensor:
    """torchdiffeq with its own recording; the field may begin with a ReLU in place."""
    from torchdiffeq import odeint

    field = prepare(matrix)
    times = torch.tensor([0.0, 1.0], dtype=start.dtype)

    def slope(t: Tensor, z: Tensor) -> Tensor:
        return field(z.relu_() if in_place else z)  # type: ignore[operator,no-any-return]

    return odeint(slope, start, times, rtol=tolerance, atol=tolerance, method="dopri5")[-1]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_replay_repeats_the_solution(tolerance: float) -> None:
    """Taking the accepted steps again gives the solver's Z(1), the interpolation in the last step included."""
    matrix, start = problem()
    end, steps, evaluations = solve(prepare(matrix), start, rtol=tolerance, atol=tolerance)  # type: ignore[arg-type]
    assert steps[-1].t + steps[-1].dt > 1.0  # the last step overshoots, so the interpolation is exercised
    assert evaluations >= 6 * len(steps) + 1
    assert torch.allclose(replay(prepare(matrix), start, steps), end, rtol=0, atol=1e-12)  # type: ignore[arg-type]
    assert torch.equal(end, whole(matrix, start, tolerance))


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_clamped_ends_are_an_in_place_relus(tolerance: float) -> None:
    """Solution and replay are those of torchdiffeq around a ReLU in place, from a start that is at zero or above."""
    matrix, start = problem()
    start = start.relu()
    field = prepare_rectified(matrix)
    end, steps, _ = solve(field, start, rtol=tolerance, atol=tolerance, clamp_ends=True)  # type: ignore[arg-type]
    assert torch.equal(end, whole(matrix, start.clone(), tolerance, in_place=True))
    assert torch.allclose(replay(field, start, steps, clamp_ends=True), end, rtol=0, atol=1e-12)  # type: ignore[arg-type]
    free, _, _ = solve(field, start, rtol=tolerance, atol=tolerance)  # type: ignore[arg-type]
    assert float((free - end).abs().max()) > 0.1  # the clamps are no small matter here


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_gradients_are_torchdiffeqs_up_to_the_choice_of_steps(tolerance: float) -> None:
    """Only the derivative of the first step's size is missing, which is of the order of the tolerance."""
    gradients = []
    for how in ("ours", "theirs"):
        matrix, start = (value.clone().requires_grad_() for value in problem())
        if how == "ours":
            end, _ = integrate(prepare, start, (matrix,), rtol=tolerance, atol=tolerance)  # type: ignore[arg-type]
        else:
            end = whole(matrix, start, tolerance)
        (end**3).sum().backward()
        assert matrix.grad is not None
        assert start.grad is not None
        gradients.append((matrix.grad, start.grad))
    for ours, theirs in zip(*gradients, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 3 * tolerance


@pytest.mark.parametrize("clamped", [False, True])
def test_gradient_agrees_with_finite_differences(clamped: bool) -> None:
    """Central differences of the replayed solution (fixed steps), for every entry of the matrix; with clamps too."""
    matrix, start = problem()
    make: Any = prepare_rectified if clamped else prepare
    start = start.relu() if clamped else start
    _, steps, _ = solve(make(matrix), start, rtol=1e-3, atol=1e-3, clamp_ends=clamped)
    leaf = matrix.clone().requires_grad_()
    end, _ = integrate(make, start, (leaf,), rtol=1e-3, atol=1e-3, clamp_ends=clamped)
    (end**2).sum().backward()
    assert leaf.grad is not None
    for row in range(5):
        for column in range(5):
            values = []
            for sign in (1, -1):
                moved = matrix.clone()
                moved[row, column] += sign * 1e-5
                values.append(float((replay(make(moved), start, steps, clamp_ends=clamped) ** 2).sum()))
            assert float(leaf.grad[row, column]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-6)


def test_gradient_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recomputing one image at a time sums to the same gradient."""
    gradients = []
    for floats in (10**9, 1):
        monkeypatch.setattr("dnw_core.models.layers.kernels.CPU_PIECE_FLOATS", floats)
        matrix, start = (value.clone().requires_grad_() for value in problem())
        end, _ = integrate(prepare, start, (matrix,), rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
        (end**2).sum().backward()
        gradients.append((matrix.grad, start.grad))
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, rtol=1e-12)
