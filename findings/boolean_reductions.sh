#!/usr/bin/env bash
# torch 2.15.0, CPU: reductions of boolean masks are an order of magnitude slower than the same ones of their bytes.
#
# What one would guess: a boolean is a byte, so any() and all() over rows or columns of a mask are the cheapest reductions
# there are, and any() of a whole mask stops at the first entry that is true.
#
# What is so (masks of 3,072 x 2,816, as one layer of a sparse network has; one thread):
#   * mask.any(dim) takes 7 to 40 ms, the maximum of the same memory seen as bytes, mask.view(torch.uint8).amax(dim), half a
#     millisecond; mask.all(dim) and amin(dim) likewise.
#   * mask.sum() takes ten times as long as mask.count_nonzero(), which counts the same: it converts to int64 first.
#   * mask.any() reads the whole mask, whatever the first entry is.
# The results are equal. In code that looks at masks in every step or epoch (which nodes still have an edge, how many edges
# there are) these lines cost more than the selection of the edges.
#
# Remedy: view(torch.uint8) with amax and amin where only "is there one" is asked, count_nonzero where one counts.
#
# Installs the pinned packages into a fresh environment in a temporary folder, and needs nothing else. Prints what it saw;
# exit code 0: as described; 1: the behaviour has changed. The bounds are far from what is seen: 5 and 3 times, for 14 to 80
# and 10 to 25.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy

cat > "$place/program.py" <<'PROGRAM'
import sys
import time

import torch

torch.set_num_threads(1)
wrong = []
print(f"torch {torch.__version__}")


def milliseconds(work, *alternatives):
    """The least of 15 runs of each, in turn, so that what else the machine does meets them alike."""
    best = [float("inf")] * (1 + len(alternatives))
    for _ in range(15):
        for place, one in enumerate((work, *alternatives)):
            begun = time.perf_counter()
            one()
            best[place] = min(best[place], 1e3 * (time.perf_counter() - begun))
    return best


def check(what, slow, quick, bound):
    print(f"  {what}: {slow:.2f} ms and {quick:.2f} ms, {slow / quick:.0f} times")
    if slow < bound * quick:
        wrong.append(what)


for density in (0.03, 0.5):
    mask = torch.rand(3072, 2816, generator=torch.Generator().manual_seed(0)) < density
    octets = mask.view(torch.uint8)
    print(f"{density:.0%} true:")
    for dim in (0, 1):
        assert torch.equal(mask.any(dim), octets.amax(dim).view(torch.bool))
        assert torch.equal(mask.all(dim), octets.amin(dim).view(torch.bool))
        check(f"any({dim}) and amax({dim}) of bytes", *milliseconds(lambda: mask.any(dim), lambda: octets.amax(dim)), 5)
        check(f"all({dim}) and amin({dim}) of bytes", *milliseconds(lambda: mask.all(dim), lambda: octets.amin(dim)), 5)
    assert int(mask.sum()) == int(mask.count_nonzero())
    check("sum() and count_nonzero()", *milliseconds(mask.sum, mask.count_nonzero), 3)

first, none = torch.zeros(2, 3072, 2816, dtype=torch.bool)
first[0, 0] = True
early, late = milliseconds(first.any, none.any)
print(f"any() of a mask whose first entry is true: {early:.2f} ms; of one without: {late:.2f} ms")
if early < late / 3:
    wrong.append("any() stops early")

if wrong:
    sys.exit(f"the behaviour has changed: {'; '.join(wrong)}")
print("as described")
PROGRAM
"$place/venv/bin/python" "$place/program.py"
