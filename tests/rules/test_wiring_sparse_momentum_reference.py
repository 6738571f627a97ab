"""Sparse momentum against a plain reference, over epochs."""

from __future__ import annotations

import math

import pytest
import torch
from support.networks.double_layers import SIZES, DoubleLayers
from torch import Tensor

from dnw_core.wiring.rule import Run


def by_magnitude(values: Tensor) -> list[int]:
    """Flat indices from the largest magnitude to the smallest, the lowest first of equal ones."""
    flat = values.flatten().tolist()
    return sorted(range(len(flat)), key=lambda index: (-abs(flat[index]), index))


def drop_and_regrow(weights: list[Tensor], momenta: list[Tensor], masks: list[Tensor], r: float) -> list[Tensor]:
    """The reference: the edges after an epoch's end, by plain loops over lists in double precision."""
    means, dropped, remaining = [], [], []
    for momentum, mask in zip(momenta, masks, strict=True):
        on = [abs(m) for m, e in zip(momentum.flatten().tolist(), mask.flatten().tolist(), strict=True) if e]
        means.append(math.fsum(on) / len(on) if on else 0.0)
    for weight, mask, mean in zip(weights, masks, means, strict=True):
        edges, slots = int(mask.sum()), mask.numel()
        rate = r
        if edges / slots > 0.8 and mean / sum(means) > 1 / len(means):
            rate = min(r, 1 - edges / slots)
        dropped.append(math.ceil(round(rate * edges, 9)))
        held = [i for i in by_magnitude(weight) if mask.flatten()[i]]
        remaining.append(held[: edges - dropped[-1]])
    total = sum(dropped)
    rooms = [mask.numel() - len(held) for mask, held in zip(masks, remaining, strict=True)]
    low, high = 0.0, float(total)
    for _ in range(200):
        middle = (low + high) / 2
        got = [min(room, total * mean / sum(means) + middle) for room, mean in zip(rooms, means, strict=True)]
        low, high = (middle, high) if sum(got) < total else (low, middle)
    whole = [math.floor(share + 1e-9) for share in got]
    by_remainder = sorted(range(len(got)), key=lambda i: whole[i] - got[i])
    for i in by_remainder[: total - sum(whole)]:
        whole[i] += 1
    result = []
    for momentum, held, grown in zip(momenta, remaining, whole, strict=True):
        free = [i for i in by_magnitude(momentum) if i not in held]
        mask = torch.zeros(momentum.numel(), dtype=torch.bool)
        mask[held + free[:grown]] = True
        result.append(mask.view_as(momentum))
    return result


@pytest.mark.parametrize("layers", ["uniform", "erk"])
@pytest.mark.parametrize("density", [0.2, 0.6])
def test_against_a_plain_reference_over_epochs(layers: str, density: float) -> None:
    """Masked SGD with dense gradients and the epoch's ends, written out: same edges, same weights."""
    epochs = 6
    trial = DoubleLayers("sparse-momentum", SIZES, Run(epochs, 4), density=density, layers=layers)
    weights = [here.weight.detach().clone() for here in trial.attached]
    masks = [here.edges().clone() for here in trial.attached]
    momenta = [torch.zeros_like(weight) for weight in weights]
    counts, moved = [[int(mask.sum()) for mask in masks]], 0
    for epoch in range(epochs):
        for step in range(4 * epoch, 4 * epoch + 4):
            trial.train(step, step + 1)
            gradients = trial.gradients(weights, masks, step)
            momenta = [
                0.9 * momentum + gradient + 0.01 * weight
                for momentum, gradient, weight in zip(momenta, gradients, weights, strict=True)
            ]
            weights = [(w - 0.1 * m) * mask for w, m, mask in zip(weights, momenta, masks, strict=True)]
        trial.wiring.after_epoch(epoch)
        r = 0.005 + 0.495 * (1 + math.cos(math.pi * (epoch + 1) / epochs)) / 2
        before, masks = masks, drop_and_regrow(weights, momenta, masks, r)
        weights = [weight * (old & new) for weight, old, new in zip(weights, before, masks, strict=True)]
        for here, weight, mask, old in zip(trial.attached, weights, masks, before, strict=True):
            assert torch.equal(here.edges(), mask)
            assert torch.allclose(here.weight.data, weight, rtol=1e-9, atol=1e-12)
            moved += int((mask & ~old).sum())
        assert sum(int(own.sum()) for own in trial.wiring.edges().values()) == sum(
            here.rule.kept_edges for here in trial.attached
        )
        counts.append([int(mask.sum()) for mask in masks])
    # edges go to other slots and to other weights
    assert moved > 20
    assert counts[0] != counts[-1]
