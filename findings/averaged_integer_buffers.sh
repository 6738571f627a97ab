#!/usr/bin/env bash
# torch 2.15.0: AveragedModel(use_buffers=True) on buffers that are no real numbers: counters, masks, flags.
#
# What one would guess: "averages of parameters and buffers" means running statistics; a counter or a mask is either copied
# or averaged to something near it, and batch norm's num_batches_tracked follows the model's.
#
# What is so: they are averaged like everything else, and the result is cut to the buffer's type.
#   * A counter stays behind for ever: from 1 on, 0.9 * 1 + 0.1 * 2 is cut to 1 again. It moves when the model's is ten ahead
#     (a thousand, at a decay of 0.999), and stays that far behind; that of a plain mean never moves.
#     BatchNorm(momentum=None) divides by this number.
#   * Of two boolean masks an exponential average is the union: it only ever grows. Of two masks kept as bytes it is their
#     intersection. The plain mean of bytes wraps around: where a 1 became a 0 there is a 128 afterwards.
#   * The plain mean of booleans is an error, the exponential one is none.
# An average of a pruned network then keeps more, or fewer, weights than any network that went into it, without a word.
#
# Remedy: average parameters alone (the default; buffers are then copied), or copy such buffers after each update.
#
# Installs the pinned packages into a fresh environment in a temporary folder, and needs nothing else. Prints what it saw;
# exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy

cat > "$place/program.py" <<'PROGRAM'
import sys

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

wrong = []
print(f"torch {torch.__version__}")


def check(what, found, expected):
    print(f"  {what}: {found}")
    if found != expected:
        wrong.append(what)


def ema(model):
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)


print("batch norm's counter after 50 training steps, one update each:")
for name, make in (("exponential", ema), ("plain mean", lambda model: AveragedModel(model, use_buffers=True))):
    model = nn.BatchNorm1d(3)
    average = make(model)
    for _ in range(50):
        model(torch.randn(4, 3))
        average.update_parameters(model)
    check(f"{name} (the model's is 50)", int(average.module.num_batches_tracked), {"exponential": 40, "plain mean": 1}[name])


class Masked(nn.Module):
    """A mask of two entries of four, which moves."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("mask", torch.tensor([1, 1, 0, 0]).to(dtype))


def moved(make, dtype):
    model = Masked(dtype)
    average = make(model)
    average.update_parameters(model)
    model.mask.copy_(torch.tensor([1, 0, 1, 0]).to(dtype))
    average.update_parameters(model)
    return average.module.mask.tolist()


print("the mask [1, 1, 0, 0] became [1, 0, 1, 0]; its average:")
check("exponential, boolean", moved(ema, torch.bool), [True, True, True, False])
check("exponential, bytes", moved(ema, torch.uint8), [1, 0, 0, 0])
check("plain mean, bytes", moved(lambda model: AveragedModel(model, use_buffers=True), torch.uint8), [1, 128, 0, 0])
try:
    found = moved(lambda model: AveragedModel(model, use_buffers=True), torch.bool)
except RuntimeError as error:
    found = "an error"
    print(f"  ({type(error).__name__})")
check("plain mean, boolean", found, "an error")
check("parameters alone, boolean", moved(AveragedModel, torch.bool), [True, False, True, False])

if wrong:
    sys.exit(f"the behaviour has changed: {'; '.join(wrong)}")
print("as described")
PROGRAM
"$place/venv/bin/python" "$place/program.py"
