"""The exactness of gradients on a CPU, ours beside a plain network's: ``python benchmarks/exactness.py``.

Ours runs most maps in channels-last order and small ones of the graph network in channel-major order; the plain one has
the same weights, PyTorch's own norms and every map contiguous. Both compute one batch's gradients in float32, and
the plain one in float64. A parameter's error is its largest difference from float64, relative to its largest gradient;
a network's is the largest of all parameters', and of all batches'. Weights that a rule selects are selected.

The largest error is mostly that of a ReLU on the other side of zero for a single value, which affects either network;
the median over the parameters shows how exact the others are. ``--smooth`` replaces ReLU with softplus, which has no
such sides.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plain_mobilenet import PlainGraphMobileNet
from dnw_core.config.recipe import Recipe
from dnw_core.models.build import build_wired
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import effective_weights

# network and wiring of a row, and the pixels a side it is compared at: ResNet-50 in float64 takes long at more
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "graph-mobilenet": ({"image_size": 32}, {"rule": "top-edges", "width": 0.225}, 32),
    "mobilenet-v1": ({"image_size": 32}, {"rule": "complete"}, 32),
    "wide-resnet": ({}, {"rule": "top-edges", "density": 0.1}, 32),
    "resnet50": ({"image_size": 32}, {"rule": "top-edges", "density": 0.1}, 32),
}
Gradients = dict[str, Tensor]


def build(kind: str) -> nn.Module:
    """The row's network with its rules, from seed 0."""
    network, wiring, _ = KINDS[kind]
    recipe = Recipe.model_validate(
        {
            "network": {"kind": kind, **network},
            "wiring": wiring,
            "data": {"dataset": "cifar10"},
            "schedule": {"kind": "multi-step", "milestones": [80, 120]},
            "epochs": 160,
            "batch_size": 128,
        }
    )
    return build_wired(recipe.network, recipe.wiring, seed=0)[0]


def plain_copy(network: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A copy with PyTorch's own norms, and its forward pass, in which every map is contiguous."""
    plain = copy.deepcopy(network).train()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = nn.BatchNorm2d
    if isinstance(plain, GraphMobileNet):
        return plain, PlainGraphMobileNet(plain, list(attached_rules(plain)))
    for module in plain.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return plain, plain


def gradients(network: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Gradients:
    """The gradients of the batch's mean loss, in float64."""
    network.zero_grad()
    with effective_weights():
        F.cross_entropy(forward(images), labels).backward()  # type: ignore[no-untyped-call]
    return {name: x.grad.double() for name, x in network.named_parameters() if x.grad is not None}


def errors(found: Gradients, right: Gradients) -> list[float]:
    """Each parameter's error; those whose whole gradient is rounding are left out."""
    largest = max(float(gradient.abs().max()) for gradient in right.values())
    return [
        float((found[name] - gradient).abs().max() / gradient.abs().max())
        for name, gradient in right.items()
        if float(gradient.abs().max()) > 1e-12 * largest
    ]


def compare(kind: str, batch_size: int, size: int, batches: int, threads: list[int]) -> float:
    """Measure one network and print a line for each number of threads; return the largest ratio."""
    network = build(kind).train()
    plain, plain_forward = plain_copy(network)
    exact, exact_forward = plain_copy(copy.deepcopy(network).double())
    found: dict[tuple[int, str], list[list[float]]] = {}
    for seed in range(batches):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(batch_size, 3, size, size, generator=generator)
        labels = torch.randint(0, 10, (batch_size,), generator=generator)
        right = gradients(exact, exact_forward, images.double(), labels)
        for count in threads:
            torch.set_num_threads(count)
            for name, one, forward in (("plain", plain, plain_forward), ("ours", network, network)):
                off = errors(gradients(one, forward, images, labels), right)
                found.setdefault((count, name), []).append(off)
    ratios = []
    for count in threads:
        largest, median = (
            {name: of(of(one) for one in found[count, name]) for name in ("plain", "ours")}
            for of in (max, statistics.median)
        )
        ratios.append(largest["ours"] / largest["plain"])
        print(
            f"{kind:16s} {size:3d} px  {count} threads  largest error: plain {largest['plain']:.1e}  ours"
            f" {largest['ours']:.1e}  ratio {ratios[-1]:5.2f}   median: plain {median['plain']:.1e}"
            f"  ours {median['ours']:.1e}",
            flush=True,
        )
    return max(ratios)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=KINDS, help="network (default: all)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, help="pixels a side")
    parser.add_argument("--batches", type=int, default=3, help="the largest error of all of them counts")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--smooth", action="store_true", help="softplus for ReLU")
    arguments = parser.parse_args()
    if arguments.smooth:
        F.relu = lambda x, inplace=False: F.softplus(x)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, batch {arguments.batch_size}")
    worst = max(
        compare(
            kind,
            arguments.batch_size,
            arguments.image_size or KINDS[kind][2],
            arguments.batches,
            arguments.threads or [1, 2],
        )
        for kind in arguments.kind or KINDS
    )
    print(f"largest ratio {worst:.2f} (bound: 3)")


if __name__ == "__main__":
    main()
