"""Table ``sparse-resnet50`` at full size: the facts' number of weights at every epoch's end, by every rule."""

from __future__ import annotations

import pytest
import torch
from support.networks.row_facts import RESNET50_DENSE, START_DENSE, resnet50_kept
from support.networks.wired_networks import wired

from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run
from tune_configs import load_tables

ROWS = load_tables()["sparse-resnet50"].rows
# one of each rule that promises a count; rows whose rule never moves an edge are counted in test_rows.py
COUNTED = ["all-sparse-10", "first-dense-10", "snfs-10", "set-10", "rigl-erk-10", "gmp-10", "snip-10", "ac-dc-10"]
RUN = Run(epochs=2, steps_per_epoch=2)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    """Gradients for the largest weight, and a little more: each step takes another stretch."""
    return torch.randn(512 * 512 * 9 + RUN.steps, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("row_id", COUNTED)
def test_weights_kept_at_every_epochs_end(row_id: str, noise: torch.Tensor) -> None:
    """Two epochs of two steps, all 25.5 million weights moved by noise: facts 3's count in all, to the weight.

    Rules that begin with the complete network get there by the last epoch's end, and promise what they have before.
    """
    row = ROWS[row_id]
    recipe = row.recipe_at("paper")
    network, graphs = wired(recipe.network, recipe.wiring)
    dense = sum(parameter.numel() for parameter in network.parameters() if parameter.dim() > 1) - sum(
        graph.slots.numel for graph in graphs
    )
    assert sum(graph.slots.numel for graph in graphs) + dense == RESNET50_DENSE[0]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    wiring = Wiring(network, optimiser)
    wiring.begin(RUN)
    for epoch in range(RUN.epochs):
        for step in range(epoch * RUN.steps_per_epoch, (epoch + 1) * RUN.steps_per_epoch):
            for here in wiring.attached:
                here.weight.grad = 0.01 * noise[step : step + here.weight.numel()].view(here.weight.shape)
            wiring.before_step(step)
            optimiser.step()
            wiring.after_step(step)
        wiring.after_epoch(epoch)
        kept = sum(int(edges.count_nonzero()) for edges in wiring.edges().values()) + dense
        if recipe.wiring.rule not in START_DENSE or epoch == RUN.epochs - 1:
            assert kept == resnet50_kept(row)
