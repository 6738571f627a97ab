#!/usr/bin/env bash
# torchdiffeq 0.2.5, torch 2.15.0: an in-place activation at the start of an ODE's function changes the solution.
#
# What one would guess: each evaluation gets a tensor of its own, made for that stage. A function that begins with
# nn.ReLU(inplace=True), as pre-activation blocks do, overwrites a temporary and nothing else; the solution is that of the
# same function with a ReLU on a copy. If it were not, autograd would complain.
#
# What is so: dopri5, dopri8 and bosh3 build a step's last stage as the state that the step ends on and hand that very tensor to
# the function; the fixed-step solvers hand over the state that a step starts from. Overwritten there, it is the state that
# the error control compares and that the next step goes on from: another differential equation is solved, at any
# tolerance. Nothing warns, not even in the backward pass, and a gradient comes out that fits the changed solution. The
# solution's row at t = 0 is copied before the first evaluation and stays as it was, while the caller's own tensor does not.
# fehlberg2, adaptive_heun and scipy_solver never hand out a state that they go on from, but for the start.
#
# Remedy: ReLU(inplace=False), or a copy, at the function's first operation.
#
# Installs the pinned packages into a fresh environment in a temporary folder, and needs nothing else. Prints what it saw;
# exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.15.0 torchdiffeq==0.2.5 numpy scipy

cat > "$place/program.py" <<'PROGRAM'
import sys
import warnings

import torch
import torchdiffeq
from torchdiffeq import odeint

warnings.filterwarnings("ignore", message=".*min_step.*")  # scipy has no use for one of torchdiffeq's options
torch.manual_seed(0)
MATRIX = torch.randn(8, 8, dtype=torch.float64)
# at zero or above, so that clamping the start changes nothing: what differs below comes of later states
START = torch.rand(16, 8, dtype=torch.float64)
TIMES = torch.linspace(0, 1, 11, dtype=torch.float64)
GOES_ON_FROM_IT = {"dopri5", "dopri8", "bosh3", "euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams"}
HANDS_OUT_NONE = {"fehlberg2", "adaptive_heun", "scipy_solver"}


def solve(method, relu, start=START, matrix=MATRIX):
    options = {"solver": "RK45"} if method == "scipy_solver" else {}
    field = lambda t, z: torch.tanh(relu(z) @ matrix)  # noqa: E731
    return odeint(field, start.clone(), TIMES, rtol=1e-6, atol=1e-8, method=method, options=options)


print(f"torch {torch.__version__}, torchdiffeq {torchdiffeq.__version__}")
print("largest difference at t = 1 between a ReLU in place and one on a copy, from the same start (at zero or above):")
wrong = []
for method in sorted(GOES_ON_FROM_IT | HANDS_OUT_NONE):
    pure = solve(method, torch.relu)[-1]
    in_place = solve(method, torch.relu_)[-1]
    copied = solve(method, lambda z: torch.relu_(z.clone()))[-1]
    difference = float((in_place - pure).abs().max())
    print(f"  {method:15} {difference:.1e}   (in place on a copy: {float((copied - pure).abs().max()):.1e})")
    if (difference > 0.01) != (method in GOES_ON_FROM_IT) or not torch.equal(copied, pure):
        wrong.append(method)

below = START - 0.5
mine = below.clone()
solution = odeint(lambda t, z: torch.tanh(torch.relu_(z) @ MATRIX), mine, TIMES, method="dopri5")
print(f"dopri5's solution at t = 0 has a minimum of {float(solution[0].min()):.2f}, the caller's own tensor afterwards")
print(f"one of {float(mine.min()):.2f}; it was {float(below.min()):.2f}")
if not (torch.equal(solution[0], below) and torch.equal(mine, below.relu())):
    wrong.append("the start")

gradients = []
for relu in (torch.relu, torch.relu_):
    leaf = MATRIX.clone().requires_grad_()
    solve("dopri5", relu, matrix=leaf)[-1].sum().backward()
    gradients.append(leaf.grad)
off = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
print(f"dopri5's backward pass raises nothing; the gradient differs by {100 * off:.0f} %")
if off < 0.01:
    wrong.append("the gradient")

if wrong:
    sys.exit(f"the behaviour has changed: {', '.join(wrong)}")
print("as described")
PROGRAM
"$place/venv/bin/python" "$place/program.py"
