#!/usr/bin/env bash
# Batch norm on a CPU: in channels-last order float32 statistics and gradients are up to 20,000 times less exact.
#
# What a good engineer would guess: the order in which a tensor lies in memory changes no result but for the last bit or
# two, and float32 statistics over 131,072 values are good to 1e-6 or so, since libraries add up pairwise or in float64.
# What is so (torch 2.15.0): over contiguous maps PyTorch's CPU kernels do add up in float64. Over channels-last ones they
# add up in float32, one value after the other, over all images and pixels of a thread's share: mean, variance, and the
# two sums of the backward pass. The error grows with images times pixels (1e-4 in the values, 1e-3 to 1e-2 in gradients,
# at 128 x 32 x 32 x 32), is the same for all values of a channel, and more threads make it smaller: each adds up less. Maps
# of one pixel, [n, c, 1, 1], take the inexact kernel even where they are contiguous. `torch.channels_last` is what
# tutorials advise for speed; a deep network's ReLUs turn these errors into some per cent of single gradients.
#
# The script installs torch 2.15.0 into a virtual environment of its own, measures, prints, and fails if this is no longer
# so. It needs a Python that torch 2.15.0 is made for (3.11, say; PYTHON names another) and a package index that has it.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy==2.4.6

cat > "$folder/measure.py" <<'PYTHON'
import platform
import sys

import numpy
import torch
from torch import nn

NAMES = ("values", "grad of maps", "grad of weight", "running var")


def results(maps, grad, order, dtype):
    """A training step of a fresh norm: what it returns, its gradients, its running variance; in float64."""
    norm = nn.BatchNorm2d(maps.shape[1]).to(dtype)
    maps = maps.detach().to(dtype).contiguous(memory_format=order).requires_grad_()
    made = norm(maps)
    made.backward(grad.to(dtype).contiguous(memory_format=order))
    return [x.detach().double() for x in (made, maps.grad, norm.weight.grad, norm.running_var)]


def errors(maps, grad, order):
    """The largest difference from float64, relative to the largest value."""
    right = results(maps, grad, torch.contiguous_format, torch.float64)
    found = results(maps, grad, order, torch.float32)
    return [float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, right)]


print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}, {platform.machine()},")
print(f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads by default\n")
print(f"{'images x channels x pixels':28s} {'threads':>7s} {'order':14s} " + " ".join(f"{name:>14s}" for name in NAMES))
ratios = {}
for images, channels, side in ((8, 32, 8), (32, 32, 16), (128, 32, 16), (128, 32, 32)):
    generator = torch.Generator().manual_seed(0)
    maps = 2 * torch.randn(images, channels, side, side, generator=generator).relu()
    maps += torch.randn(channels, 1, 1, generator=generator)
    grad = 0.1 * torch.randn(maps.shape, generator=generator) + 0.1 * maps
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found = {}
        for name, order in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
            found[name] = errors(maps, grad, order)
            line = " ".join(f"{error:14.1e}" for error in found[name])
            print(f"{f'{images} x {channels} x {side} x {side}':28s} {threads:7d} {name:14s} {line}")
        ratios[images * side * side, threads] = [a / b for a, b in zip(found["channels last"], found["contiguous"])]

largest = max(rows for rows, _ in ratios)
print("\nchannels last / contiguous over the most values, 1 thread:", [round(ratio) for ratio in ratios[largest, 1]])
smallest = min(rows for rows, _ in ratios)
so = [
    ("over 131,072 values every error is at least 20 times the contiguous one", min(ratios[largest, 1]) >= 20),
    ("it grows with the number of values", max(ratios[largest, 1]) > 5 * max(ratios[smallest, 1])),
    ("it depends on the number of threads", ratios[largest, 1] != ratios[largest, 4]),
]
for claim, holds in so:
    print(f"{'still so' if holds else 'NO LONGER SO'}: {claim}")
sys.exit(0 if all(holds for _, holds in so) else 1)
PYTHON
"$folder/venv/bin/python" "$folder/measure.py"
