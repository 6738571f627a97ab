#!/usr/bin/env bash
# torch 2.15.0: making an optimiser imports torch.compile's whole machinery, in programs that never compile anything.
#
# What one would guess: torch._dynamo and torch._inductor are imported by torch.compile, when something is compiled.
#
# What is so:
#   * `import torch` leaves them out, but the first torch.optim optimiser brings both, and sympy: some 900 modules,
#     most of a second or more, and some 150 MB of the process. So does optimiser.step() and zero_grad() by themselves.
#   * torch.compiler.disable, used as a decorator, imports them as the decorated function is defined: a library that keeps one
#     function out of compilation makes every `import` of itself as slow.
# A long training does not notice. A cluster of short trials, each in a process of its own (as Ray starts them), pays it per
# trial and per data-parallel worker: about a third of the time from the process's start to its first step.
#
# Remedy: the undecorated methods are below the decorators as __wrapped__; a subclass of SGD that calls them takes the same
# steps to the bit (checked here) and imports nothing.
#
# Installs the pinned packages into a fresh environment in a temporary folder, and needs nothing else. Prints what it saw;
# exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy

cat > "$place/program.py" <<'PROGRAM'
import resource
import subprocess
import sys

BEGIN = """
import sys, time, resource
import torch
weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
weight.grad = torch.ones(2, 3)
before, begun = set(sys.modules), time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{code}
new = set(sys.modules) - before
seconds = time.process_time() - begun
megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
print("torch._dynamo" in sys.modules, "torch._inductor" in sys.modules, len(new), f"{{seconds:.2f}}", f"{{megabytes:.0f}}", weight.tolist())
"""
SGD = "torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.01)"
PLAIN = """
class Plain(torch.optim.SGD):
    add_param_group = torch.optim.SGD.add_param_group.__wrapped__
    zero_grad = torch.optim.SGD.zero_grad.__wrapped__
    _step = torch.optim.SGD.step.__wrapped__

    @torch.no_grad()
    def step(self):
        return self._step()

optimiser = Plain([weight], lr=0.1, momentum=0.9, weight_decay=0.01)
optimiser.step(); optimiser.step()
"""
PROGRAMS = {
    "nothing": "pass",
    "torch.optim.SGD is made": SGD,
    "torch.optim.AdamW is made": "torch.optim.AdamW([weight])",
    "torch.compiler.disable decorates a function": "@torch.compiler.disable\ndef function(): pass",
    "SGD steps twice": f"optimiser = {SGD}\noptimiser.step(); optimiser.step()",
    "SGD steps twice, undecorated": PLAIN,
}
wrong, weights = [], {}
for name, code in PROGRAMS.items():
    ran = subprocess.run([sys.executable, "-c", BEGIN.format(code=code)], capture_output=True, text=True, check=True)
    dynamo, inductor, modules, seconds, megabytes, weight = ran.stdout.split(maxsplit=5)
    print(f"{name}: {modules} modules, {seconds} s, {megabytes} MB; compiler {'loaded' if dynamo == 'True' else 'not loaded'}")
    weights[name] = weight
    expected = "False" if name in ("nothing", "SGD steps twice, undecorated") else "True"
    if dynamo != expected or inductor != expected or (expected == "True") != (int(modules) > 300):
        wrong.append(name)
if weights["SGD steps twice"] != weights["SGD steps twice, undecorated"]:
    wrong.append("the undecorated steps are others")

if wrong:
    sys.exit(f"the behaviour has changed: {'; '.join(wrong)}")
print("as described")
PROGRAM
"$place/venv/bin/python" -c "import torch; print(f'torch {torch.__version__}')"
"$place/venv/bin/python" "$place/program.py"
