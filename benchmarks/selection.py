"""Selecting the edges of ResNet-50 beside sorting its weights: ``python benchmarks/selection.py``.

The input is all 54 weights, 25.5 million entries, as Kaiming-normal initialisation draws them, and once more rounded to
few levels so that most entries tie. Ours is ``largest_magnitudes``; the other way sorts |w| with torch.sort, stable or
not, whichever is faster. The two alternate, and medians are compared. A check comes first that ours keeps the same set
as a stable sort, ties included. Exit code 1 if ours is anywhere less than 4 times as fast.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dnw_core.config.residual_networks import ResNet50Config
from dnw_core.models.build import build_network
from dnw_core.wiring.selection import largest_magnitudes

DENSITIES = (0.1, 0.2, 0.3, 0.5, 0.9)
LEVELS = 8
LIMIT = 4.0


def make_weights() -> list[Tensor]:
    """The convolutions and the classifier, as they are drawn for training."""
    network = build_network(ResNet50Config(kind="resnet50"), seed=0)
    return [weight.detach() for weight in network.parameters() if weight.dim() == 4]


def coarse(weight: Tensor) -> Tensor:
    """The same weight with few distinct magnitudes."""
    return weight.div(weight.abs().max()).mul(LEVELS).round()


def by_sorting(weight: Tensor, k: int) -> Tensor:
    """The mask of the k largest magnitudes by a stable sort, lowest index first on ties."""
    order = torch.sort(weight.abs().view(-1), descending=True, stable=True).indices
    return torch.zeros(weight.numel(), dtype=torch.bool).index_fill_(0, order[:k], True).view(weight.shape)


def check_agreement(weights: list[Tensor], density: float) -> None:
    """Compare the kept sets of every weight."""
    for weight in weights:
        k = math.ceil(density * weight.numel())
        if not torch.equal(largest_magnitudes(weight, k), by_sorting(weight, k)):
            raise SystemExit(f"another set is kept of {tuple(weight.shape)} at density {density}")


def median_seconds(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run the ways in turn, ``repeats`` times after one warm-up; return each one's median."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if repeat:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(name: str, weights: list[Tensor], density: float, repeats: int) -> float:
    """Measure one density and print a line; return how many times as fast as sorting ours is."""
    kept = [math.ceil(density * weight.numel()) for weight in weights]
    seconds = median_seconds(
        {
            "sort": lambda: [torch.sort(weight.abs().view(-1), descending=True) for weight in weights],
            "stable": lambda: [torch.sort(weight.abs().view(-1), descending=True, stable=True) for weight in weights],
            "ours": lambda: [largest_magnitudes(weight, k) for weight, k in zip(weights, kept, strict=True)],
        },
        repeats,
    )
    ratio = min(seconds["sort"], seconds["stable"]) / seconds["ours"]
    print(
        f"{name:<8}{density:>8.0%}{seconds['sort'] * 1e3:>12,.0f}{seconds['stable'] * 1e3:>14,.0f}"
        f"{seconds['ours'] * 1e3:>10,.0f}{ratio:>8.1f}x",
        flush=True,
    )
    return ratio


def main() -> int:
    """Compare at every density, with and without ties."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="rounds after one to warm up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    weights = make_weights()
    entries = sum(weight.numel() for weight in weights)
    print(f"{len(weights)} weights, {entries:,} entries, {arguments.threads} threads, torch {torch.__version__}; ms")
    print(f"{'values':<8}{'density':>8}{'torch.sort':>12}{'stable sort':>14}{'ours':>10}")
    ratios = []
    for name, values in (("normal", weights), ("tied", [coarse(weight) for weight in weights])):
        for density in DENSITIES:
            check_agreement(values, density)
            ratios.append(compare(name, values, density, arguments.repeats))
    print(f"least: {min(ratios):.1f}x (bound {LIMIT:g}x)")
    return int(min(ratios) < LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
