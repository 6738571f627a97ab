"""Twenty training steps of small networks, on one worker or as one of two: what both are compared by."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dnw_core.config.networks import GraphBlock, GraphMobileNetConfig
from dnw_core.config.recipe import Recipe
from dnw_core.data.feeds.batches import DeviceImages, ResidentFeed
from dnw_core.data.feeds.feed import steps_per_epoch
from dnw_core.models.build import build_rule, build_wired
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet
from dnw_core.training.engine.batch_statistics import batch_norms, broadcast_statistics
from dnw_core.training.engine.group import SINGLE, WorkerGroup
from dnw_core.training.engine.loop import evaluate, train_epoch
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.training.engine.state import TrainingState
from dnw_core.training.engine.step import TrainingStep
from dnw_core.wiring.attach import attach
from dnw_core.wiring.rule import Run
from support.stubs.tiny_trials import small_recipe

CASES = ("graph", "targeted dropout", "rigl", "dropout")
IMAGES, BATCH, GROUP, EPOCHS = 66, 16, 4, 4  # five steps an epoch; the last batch has 2 images for its 4 groups
CPU = torch.device("cpu")


class Plain(nn.Module):
    """Draws at random while it trains, and has a weight that it never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.classifier = nn.Linear(8, 10)
        self.unused = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        maps = self.drop(torch.relu(self.norm(self.conv(images))))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


def small_graph() -> GraphMobileNet:
    """The MobileNetV1-like graph with few nodes: a block in each of its two memory orders."""
    config = GraphMobileNetConfig(kind="graph-mobilenet")
    return GraphMobileNet(config, (GraphBlock(6, 8, 2, 1), GraphBlock(8, 8, 2, 2), GraphBlock(8, 10, 2, 3)))


def recipe_of(case: str, **changes: Any) -> Recipe:
    """The case's recipe: batches of 16 in groups of 4."""
    kinds = {"targeted dropout": ("tiny-discrete", "targeted-dropout"), "rigl": ("wide-resnet", "rigl")}
    kind, rule = kinds.get(case, ("graph-mobilenet", "top-edges"))
    # groups of four images amplify the other order of sums (a residual network most), and near ties decide on edges
    rate = {"rigl": 1e-5, "targeted dropout": 1e-3}.get(case, 0.02)
    common = {"epochs": EPOCHS, "optimiser": {"learning_rate": rate, "weight_decay": 0.01}, "batch_size": BATCH}
    return small_recipe(kind, rule, **{**common, "batch_norm_images": GROUP, **changes})


def network_of(case: str, recipe: Recipe) -> nn.Module:
    """The case's network, the same in every process."""
    torch.manual_seed(0)
    if case in ("targeted dropout", "rigl"):
        return build_wired(recipe.network, recipe.wiring, seed=0)[0]
    if case == "dropout":
        return Plain()
    network = small_graph()
    for graph in network.graphs():
        attach(graph.module, graph.weight_name, build_rule(recipe.wiring, graph.slots, 0, graph.name))
    return network


def feed_of(recipe: Recipe) -> ResidentFeed:
    """Random images."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
    labels = generator.integers(0, 10, IMAGES)
    return ResidentFeed(DeviceImages(images, labels, (0.5,) * 3, (0.25,) * 3, CPU), recipe.data)


def train_case(case: str, group: WorkerGroup = SINGLE, start_step: int = 0, **changes: Any) -> dict[str, Any]:
    """Train the case's network for twenty steps; return its state, and loss and correct images of each epoch.

    ``start_step`` enters the first epoch there, as after a resume.
    """
    torch.set_num_threads(1)
    recipe = recipe_of(case, **changes)
    network, feed = network_of(case, recipe), feed_of(recipe)
    optimiser = make_optimiser(recipe, network)
    state = TrainingState(network, optimiser, CPU, "", 1)
    run = Run(recipe.epochs, steps_per_epoch(len(feed), recipe.batch_size, drop_last=recipe.drop_last))
    step = TrainingStep(recipe, network, optimiser, seed=0, group=group, run=run)
    step.wiring.begin(run)
    sums = []
    for epoch in range(recipe.epochs):
        state.epoch = epoch
        state.begin_epoch({})
        state.step = start_step if epoch == 0 else 0
        train_epoch(recipe, state, feed, step, lambda synced: None)
        step.wiring.after_epoch(epoch)
        sums.append((float(state.loss_sum), int(state.correct)))
    tracked = [norm.num_batches_tracked.item() for norm in step.norms if norm.num_batches_tracked is not None]
    broadcast_statistics(batch_norms(network), group)
    scores = evaluate(recipe, network, network, feed, group)
    return {
        "state": network.state_dict(),
        "sums": sums,
        "scores": (scores.loss, scores.accuracy),
        "batches tracked": tracked,
        "random": torch.get_rng_state(),
    }


def exchange(group: WorkerGroup) -> dict[str, Any]:
    """What the group says of equal tensors, and of one that differs in its last bit; and the main worker's state."""
    values = torch.ones(5)
    other = values.clone()
    if not group.is_main:
        other[3] = torch.nextafter(other[3], torch.tensor(2.0))
    state = {"weight": torch.arange(3), "name": "first", "list": [1.5]} if group.is_main else None
    return {
        "equal": group.all_equal([values, torch.arange(3)]),
        "other": group.all_equal([other]),
        "state": group.broadcast_state(state),
    }


def stopping(group: WorkerGroup) -> list[bool]:
    """Whether the workers agree to stop after each of three steps; the first one asks before the second."""
    recipe = recipe_of("dropout")
    network, feed = network_of("dropout", recipe), feed_of(recipe)
    step = TrainingStep(recipe, network, make_optimiser(recipe, network), seed=0, group=group)
    agreed = []
    for index, batch in enumerate(feed.training(batch_size=16, seed=0, epoch=0, start_step=2, share=step.share)):
        step.wants_stop = group.is_main and index >= 1
        step(batch, 0, 2 + index)
        agreed.append(step.stop_agreed())
    return agreed


def _work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    group = WorkerGroup.joined(CPU)
    found: dict[str, Any] = {case: train_case(case, group) for case in CASES}
    found["entered at the end"] = train_case("dropout", group, start_step=4, epochs=1)
    found["exchange"], found["stopping"] = exchange(group), stopping(group)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def on_two_workers(folder: Path) -> list[dict[str, Any]]:
    """Run everything as two processes over gloo; return what each found."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
