#!/usr/bin/env bash
# torch 2.15.0: a deep copy of a parametrised module shares its class, so that taking a parametrisation off the one breaks
# the other; and it keeps the other's parametrisation in memory.
#
# What one would guess: copy.deepcopy gives an independent module. What is done to the copy (an average of weights that is
# made ready for export, say: remove_parametrizations) is done to the copy.
#
# What is so: register_parametrization gives a module a class of its own, which holds the property that computes the weight.
# A deep copy is of that same class. remove_parametrizations deletes the property from the class: the copy gets its plain
# weight back, and the original raises AttributeError at its next forward pass, although nobody touched it.
#
# Remedy: give the copy a class of its own first (a subclass made with type() and the same namespace), or take the
# parametrisations off before copying.
#
# Installs the pinned packages into a fresh environment in a temporary folder, and needs nothing else. Prints what it saw;
# exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy

cat > "$place/program.py" <<'PROGRAM'
import copy
import gc
import sys
import weakref

import torch
from torch import nn
from torch.nn.utils import parametrize

wrong = []
print(f"torch {torch.__version__}")


class Doubled(nn.Module):
    """Twice the weight."""

    def forward(self, weight):
        return 2 * weight


def check(what, found, expected=True):
    print(f"  {what}: {found}")
    if found != expected:
        wrong.append(what)


def made():
    layer = nn.Linear(3, 2)
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


x = torch.ones(1, 3)
original = made()
expected = original(x)
clone = copy.deepcopy(original)
check("the copy is of the very class of the original", type(clone) is type(original))
check("they have weights of their own", clone.parametrizations.weight.original is not original.parametrizations.weight.original)
parametrize.remove_parametrizations(clone, "weight")
check("the copy without its parametrisation computes the same", torch.equal(clone(x), expected))
try:
    original(x)
    found = "no error"
except AttributeError as error:
    found = f"AttributeError: {error}"
print(f"  the original, which nobody touched: {found}")
if not found.startswith("AttributeError"):
    wrong.append("the original")

original = made()
clone = copy.deepcopy(original)
watched = weakref.ref(original.parametrizations.weight[0])
del original
gc.collect()
check("the parametrisation of an original that was deleted lives on with its copy", watched() is not None)

original = made()
watched = weakref.ref(original.parametrizations.weight[0])
del original
gc.collect()
check("without a copy it is gone", watched() is None)

if wrong:
    sys.exit(f"the behaviour has changed: {'; '.join(wrong)}")
print("as described")
PROGRAM
"$place/venv/bin/python" "$place/program.py"
