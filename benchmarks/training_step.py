"""Our training step beside a plain one, in one run: ``python benchmarks/training_step.py``.

Both do forward, loss, backward and SGD on the same parameters and batch; the plain network (``plain_tiny.py``,
``plain_mobilenet.py``) sorts all weights at each application of the graph and optimises nothing. Steps of the two
alternate, and medians are compared at the same precision; bf16 also against the plain float32 step of the same run.
A check comes first that both compute the same loss and gradients.

The plain continuous network keeps every evaluation of the solver in memory. If a batch does not fit, both are
compared at the largest half, quarter, … that does, and only ours is measured at the full batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plain_mobilenet import PlainGraphMobileNet
from benchmarks.plain_tiny import plain_version
from benchmarks.step_against import ROWS, compare_with
from dnw_core.config.recipe import Recipe
from dnw_core.data.feeds.feed import Batch
from dnw_core.models.build import build_wired
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet
from dnw_core.models.tiny.base import TinyNetwork
from dnw_core.training.engine.numerics import autocast, set_numerics
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.training.engine.step import TrainingStep
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import effective_weights

# network -> its row's wiring, and the batch of its recipe
KINDS: dict[str, tuple[dict[str, float], int]] = {
    "tiny-static": ({"density": 0.05}, 512),
    "tiny-discrete": ({"density": 0.05}, 512),
    "tiny-continuous": ({"density": 0.05}, 512),
    "graph-mobilenet": ({"width": 0.225}, 128),
}
# settings of the rows that are not the network's defaults
NETWORK_SETTINGS: dict[str, dict[str, str]] = {"tiny-continuous": {"ode_ends": "reference"}}
# what the plain continuous network holds for one image (measured, fp32, some 38 evaluations)
PLAIN_CONTINUOUS_BYTES = 62e6


def recipe_for(kind: str, precision: str, batch_size: int) -> Recipe:
    """The recipe of a DNW row: x0.225 of table wirings, or one of table tiny (the schedule plays no part here)."""
    return Recipe.model_validate(
        {
            "network": {"kind": kind, **NETWORK_SETTINGS.get(kind, {})},
            "wiring": {"rule": "top-edges", **KINDS[kind][0]},
            "data": {"dataset": "cifar10"},
            "schedule": {"kind": "multi-step", "milestones": [80, 120]},
            "epochs": 160,
            "batch_size": batch_size,
            "precision": precision,
        }
    )


def plain_step(
    recipe: Recipe, plain: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> Tensor:
    """The same step, written plainly."""
    optimiser.zero_grad()
    with autocast(recipe.precision, images.device):
        logits = plain(images)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimiser.step()
    return loss.detach()


def plain_network(network: nn.Module) -> nn.Module:
    """The plain twin of a network, on the same parameters."""
    attached = list(attached_rules(network))
    if isinstance(network, GraphMobileNet):
        return PlainGraphMobileNet(network, attached)
    assert isinstance(network, TinyNetwork)
    weight = attached[0].weight
    assert isinstance(weight, nn.Parameter)
    return plain_version(network, weight, attached[0].rule.kept_edges)


def check_agreement(recipe: Recipe, ours: nn.Module, plain: nn.Module, batch: tuple[Tensor, Tensor]) -> str:
    """Compare loss and edge gradients on a few images; return what was found."""
    images, labels = batch[0][:16], batch[1][:16]
    found = []
    for network in (ours, plain):
        ours.zero_grad()
        with effective_weights(), autocast(recipe.precision, images.device):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        gradients = [attached.weight.grad for attached in attached_rules(ours)]
        found.append((loss.item(), torch.cat([part.flatten() for part in gradients if part is not None])))
    (loss_a, grad_a), (loss_b, grad_b) = found
    difference = float((grad_a - grad_b).norm() / grad_b.norm())
    # a batch norm's ReLU on the other side of zero for one value moves a gradient by some 1e-3; bf16 moves many
    limit = 1e-2 if recipe.precision != "bf16" else 5e-1
    if abs(loss_a - loss_b) > limit or difference > limit:
        raise SystemExit(f"the two networks disagree: loss {loss_a} and {loss_b}, gradient {difference:.2e} apart")
    return f"loss {abs(loss_a - loss_b):.1e}, gradient {difference:.1e} (relative) apart"


def median_seconds(steps: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Run the steps in turn, ``repeats`` times after one warm-up; return each one's median."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begin = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def free_bytes(device: torch.device) -> float:
    """Memory that a step may take."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable"):
            return float(line.split()[1]) * 1024
    return float("inf")


def batch_that_fits(kind: str, batch_size: int, device: torch.device) -> int:
    """Halve the batch until the plain network's memory suffices."""
    while kind == "tiny-continuous" and batch_size * PLAIN_CONTINUOUS_BYTES > 0.8 * free_bytes(device):
        batch_size //= 2
    return batch_size


def compare(
    kind: str, precision: str, batch_size: int, repeats: int, device: torch.device, plain_fp32: dict[int, float]
) -> None:
    """Measure one network at one precision and print a line; ``plain_fp32`` keeps the plain float32 step by batch."""
    fitting = batch_that_fits(kind, batch_size, device)
    recipe = recipe_for(kind, precision, batch_size)
    set_numerics(recipe.precision, device, torch.get_num_threads())
    network, _ = build_wired(recipe.network, recipe.wiring, seed=0)
    network.to(device)
    plain = plain_network(network)
    optimiser = make_optimiser(recipe, network)
    for group in optimiser.param_groups:
        group["lr"] = 1e-4  # both train the same parameters: keep them where they are
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, 32, 32, generator=generator).to(device)
    labels = torch.randint(0, 10, (batch_size,), generator=generator).to(device)
    agreement = check_agreement(recipe, network, plain, (images, labels))
    some, these = images[:fitting], labels[:fitting]
    training_step = TrainingStep(recipe, network, optimiser)
    medians = median_seconds(
        {
            "plain": lambda: plain_step(recipe, plain, optimiser, some, these),
            "ours": lambda: training_step(Batch(some, these, fitting)),
        },
        repeats,
        device,
    )
    print(
        f"{kind:16s} {precision:5s} batch {fitting:4d}  plain {medians['plain'] * 1e3:9.1f} ms"
        f"  ours {medians['ours'] * 1e3:9.1f} ms  ratio {medians['plain'] / medians['ours']:5.2f}   ({agreement})",
        flush=True,
    )
    if precision == "fp32":
        plain_fp32[fitting] = medians["plain"]
    elif fitting in plain_fp32:
        print(
            f"{'':33s}against the plain network in fp32: ratio {plain_fp32[fitting] / medians['ours']:5.2f}", flush=True
        )
    if fitting < batch_size:
        whole = {"ours": lambda: training_step(Batch(images, labels, batch_size))}
        seconds = median_seconds(whole, 1, device)["ours"]
        print(
            f"{kind:16s} {precision:5s} batch {batch_size:4d}  plain does not fit"
            f" ({PLAIN_CONTINUOUS_BYTES / 1e6:.0f} MB an image)  ours {seconds * 1e3:9.1f} ms",
            flush=True,
        )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=KINDS, help="network (default: all)")
    parser.add_argument("--precision", action="append", choices=("fp32", "tf32", "bf16"), help="default: fp32, bf16")
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each after one warm-up; the median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against", metavar="COMMIT", help="beside the step of this commit, not beside a plain one")
    parser.add_argument("--row", action="append", choices=ROWS, help="with --against: row (default: all)")
    parser.add_argument("--dirty", action="store_true", help="with --against: measure uncommitted changes, too")
    arguments = parser.parse_args()
    if arguments.against is not None:
        precision, rows = (arguments.precision or ["fp32"])[0], arguments.row or list(ROWS)
        compare_with(arguments.against, rows, precision, arguments.repeats, arguments.threads, dirty=arguments.dirty)
        return
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} CPU threads"
    print(f"torch {torch.__version__}, {where}; medians of {arguments.repeats} alternating steps")
    for kind in arguments.kind or KINDS:
        plain_fp32: dict[int, float] = {}
        for precision in arguments.precision or ("fp32", "bf16"):
            batch_size = arguments.batch_size or KINDS[kind][1]
            compare(kind, precision, batch_size, arguments.repeats, device, plain_fp32)


if __name__ == "__main__":
    main()
