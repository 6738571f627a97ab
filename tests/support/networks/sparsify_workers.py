"""A worker process of tests/library/test_sparsify_workers.py: trains sparse networks under DistributedDataParallel."""

from __future__ import annotations

import copy
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from dnw_core import Run, Wiring, effective_weights, layer_table, remove_rules, sparsify
from dnw_core.errors import UserError

STEPS = 4
# rules that act in no hook, on gradients, on momentum, on all weights together, at random, and on scores of their own
RULES = ("top-edges", "rigl", "sparse-momentum", "snip", "targeted-dropout", "edge-popup")


# rules that act in no hook can also be trained on shards: that rank, draw, or have parameters of their own
UNHOOKED = ("top-edges", "fixed-random", "edge-popup", "soft-threshold")


def network() -> nn.Module:
    """A small convolutional network without batch norm, so that half batches are as good as whole ones."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight images with their labels."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 6, 6, generator=generator), torch.randint(0, 5, (8,), generator=generator)


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Train two epochs, with the hooks after the gradients are summed; return the state."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    wiring = Wiring(model, optimiser)
    wiring.begin(Run(epochs=2, steps_per_epoch=STEPS // 2))
    for step in range(STEPS):
        optimiser.zero_grad()
        with effective_weights():
            cross_entropy(model(images), labels).backward()
        wiring.before_step(step)
        optimiser.step()
        wiring.after_step(step)
        if step % 2:
            wiring.after_epoch(step // 2)
    wiring.edges()
    return copy.deepcopy(model.state_dict())


def train_shards(rule: str, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Train a network that FSDP2 has sharded, without hooks; return the whole state."""
    from torch.distributed.fsdp import fully_shard

    model = network()
    sparsify(model, rule, None if rule == "soft-threshold" else 0.25)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    train_unhooked(model, images, labels)
    refused = []
    for use in (lambda: Wiring(model).begin(Run(1, 1)), lambda: layer_table(model), lambda: remove_rules(model)):
        try:
            use()
        except UserError as error:
            refused.append(str(error))
    whole = {name: value.full_tensor() for name, value in model.named_parameters()}
    return {**whole, "refused": refused}


def train_unhooked(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Train some steps as if there were no rules."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(STEPS):
        optimiser.zero_grad()
        with effective_weights():
            cross_entropy(model(images), labels).backward()
        optimiser.step()


def work(rank: int, rendezvous: str, results: str) -> None:
    """Train half of each batch for every rule, and save the states."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    images, labels = batch()
    states = {}
    for rule in RULES:
        model = network()
        sparsify(model, rule, 0.25)
        states[rule] = train(DistributedDataParallel(model), images[rank::2], labels[rank::2])
    for rule in UNHOOKED:
        states[f"shards {rule}"] = train_shards(rule, images[rank::2], labels[rank::2])
    torch.save(states, Path(results) / f"{rank}.pt")
    distributed.destroy_process_group()
