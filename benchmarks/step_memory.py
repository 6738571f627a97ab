"""Memory of a training step of ResNet-50, sparse beside dense: ``python benchmarks/step_memory.py``.

Each network trains a few steps with momentum, at 224 pixels, in a process of its own. The figure is the peak of
its resident memory above what it had before the network was built. For a rule these few steps are a whole run, so they
include every selection and exchange of edges, and the epoch's end. The larger batch is measured for top edges alone.
Exit code 1 if top edges takes more than 1.3 times the dense network's memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dnw_core.config import RULES
from dnw_core.config.residual_networks import ResNet50Config
from dnw_core.library.attaching import sparsify
from dnw_core.models.build import build_network
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run, effective_weights

DENSE = "dense"
BOUND_RULE = "top-edges"
LIMIT = 1.3
DENSITY = 0.1
SETTINGS = {"constant-fan": {"factor": 10}, "top-kast": {"backward_density": 0.2}}


def memory_bytes(field: str) -> int:
    """This process's resident memory: now (VmRSS) or at most so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}: this measurement needs Linux")


def peak_of(rule: str, batch_size: int, steps: int) -> int:
    """Train in this process; return the peak above the start, in bytes."""
    images, labels = torch.randn(batch_size, 3, 224, 224), torch.randint(1000, (batch_size,))
    # what the first product of all takes for libraries and threads is nobody's
    torch.nn.Conv2d(3, 8, 3)(images[:1]).sum().backward()
    start = memory_bytes("VmRSS")
    network = build_network(ResNet50Config(kind="resnet50"), seed=0)
    if rule != DENSE:
        density = DENSITY if "density" in RULES[rule].model_fields else None
        sparsify(network, rule, density, **SETTINGS.get(rule, {}))
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    wiring = Wiring(network, optimiser)
    wiring.begin(Run(epochs=1, steps_per_epoch=steps))
    for step in range(steps):
        optimiser.zero_grad()
        with effective_weights():
            cross_entropy(network(images), labels).backward()
        wiring.before_step(step)
        optimiser.step()
        wiring.after_step(step)
    wiring.after_epoch(0)
    return memory_bytes("VmHWM") - start


def measure(rule: str, batch_size: int, steps: int) -> int:
    """Train in a process of its own; return its peak above the start, in bytes."""
    command = [sys.executable, __file__, "--one", rule, "--batch-sizes", str(batch_size), "--steps", str(steps)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(rules: list[str], batch_size: int, steps: int) -> dict[str, float]:
    """Print a line for each rule; return how many times the dense network's memory it takes."""
    dense = measure(DENSE, batch_size, steps)
    print(f"batch {batch_size:<6}{DENSE:<20}{dense / 1e6:>10,.0f} MB", flush=True)
    ratios = {}
    for rule in rules:
        peak = measure(rule, batch_size, steps)
        ratios[rule] = peak / dense
        print(f"batch {batch_size:<6}{rule:<20}{peak / 1e6:>10,.0f} MB{ratios[rule]:>8.2f}x", flush=True)
    return ratios


def main() -> int:
    """Compare every rule at the first batch size, and top edges at the others."""
    able = [rule for rule, settings in RULES.items() if not settings.needs_parent]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=able, choices=able)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", choices=[DENSE, *able], help="measure this in this very process and print the bytes")
    arguments = parser.parse_args()
    if arguments.one:
        print(peak_of(arguments.one, arguments.batch_sizes[0], arguments.steps))
        return 0
    print(
        f"peak above the start, {arguments.steps} steps, torch {torch.__version__}, bound {LIMIT:g}x for {BOUND_RULE}"
    )
    found = []
    for number, batch_size in enumerate(arguments.batch_sizes):
        rules = [rule for rule in arguments.rules if not number or rule == BOUND_RULE]
        found.append(compare(rules, batch_size, arguments.steps).get(BOUND_RULE, 0.0))
    return int(max(found) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
