"""How much memory a trial needs at most, measured by a few of its steps on noise. Reads no data set.

The steps are the recipe's own: its network and rule, its batch size, precision and momentum. An epoch's end, with what
the rule does there, and an evaluation are run once, too; images that a trial keeps on the device are allocated. Sizes
that grow while a network is trained are not measured; only the continuous network has one, and its solver keeps one
state a step in any case.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from dnw_core.config import DATASET_IMAGES, STREAMED, Execution, Recipe
from dnw_core.data.feeds.feed import Batch
from dnw_core.models.build import build_wired
from dnw_core.training.checkpoints.provenance import peak_memory_bytes, reset_peak_memory
from dnw_core.training.engine.numerics import autocast, set_numerics
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.training.engine.step import TrainingStep
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run, effective_weights

STEPS = 3  # the first one makes gradients and momentum, the second one has them from its beginning


def peak_bytes(recipe: Recipe, execution: Execution) -> int:
    """Return the most memory that a trial of the recipe takes in this process, in bytes.

    On CUDA it is what torch reserves on the device, without the context of CUDA itself; on a CPU, where it serves
    tests only, the peak of the whole process.

    Args:
        recipe: what would be trained; one that starts from a parent starts from drawn weights here.
        execution: ``device``, ``threads`` and ``compile`` are read.
    """
    device = torch.device(execution.device)
    set_numerics(recipe.precision, device, execution.threads)
    reset_peak_memory(device)
    _train_a_little(recipe, execution, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_reserved(device))
    return peak_memory_bytes(device)


def _train_a_little(recipe: Recipe, execution: Execution, device: torch.device) -> None:
    network, _ = build_wired(recipe.network, recipe.wiring, seed=0)
    run = Run(recipe.epochs, STEPS)
    Wiring(network).announce(run)
    network = network.to(device)
    model = torch.compile(network) if execution.compile else network
    step = TrainingStep(recipe, network, make_optimiser(recipe, network), model, run=run)
    size, classes = recipe.network.image_size, recipe.network.classes
    dataset = recipe.data.dataset
    resident = 0 if dataset in STREAMED else sum(DATASET_IMAGES[dataset])  # decoded, a byte a channel
    kept = torch.zeros(resident, 3, size, size, dtype=torch.uint8, device=device)
    generator = torch.Generator(device).manual_seed(0)
    network.train()
    for number in range(STEPS):
        images = torch.randn(recipe.batch_size, 3, size, size, device=device, generator=generator)
        labels = torch.randint(classes, (recipe.batch_size,), device=device, generator=generator)
        step(Batch(images, labels, recipe.batch_size), 0, number)
    step.wiring.after_epoch(0)
    network.eval()
    with torch.no_grad(), effective_weights(), autocast(recipe.precision, device):
        logits = model(images)
    functional.cross_entropy(logits.float(), labels)
    del kept
