"""Whether a network computes what a reference computes: logits and the gradient of every parameter, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import effective_weights


def assert_same_function(
    network: Any, reference: Callable[[dict[str, Tensor], Tensor], Tensor], images_shape: tuple[int, ...], atol: float
) -> None:
    """Compare on random images, with no norm at a value that hides a mistake.

    Args:
        network: with a straight-through rule on its weights, or none; its parameters are changed.
        reference: from effective weights and parameters, by the names of the plain network, and images to logits.
        images_shape: [b, 3, h, w].
        atol: of the gradients; a hundredth of it of the logits.
    """
    network.double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    images = torch.randn(images_shape, generator=generator, dtype=torch.float64)
    labels = torch.arange(len(images))
    values = {name: p.detach().clone().requires_grad_() for name, p in network.named_parameters()}
    masks = {here.name: here.edges() for here in attached_rules(network)}
    effective = {}
    for name, value in values.items():
        plain = name.replace("parametrizations.weight.original", "weight")
        if plain in masks:  # straight-through: the masked weight's value, the identity's gradient
            value = value + (value.detach() * masks[plain] - value.detach())
        effective[plain] = value
    expected = reference(effective, images)
    F.cross_entropy(expected, labels).backward()
    with effective_weights():
        logits = network(images)
        F.cross_entropy(logits, labels).backward()
    torch.testing.assert_close(logits, expected, rtol=1e-8, atol=atol / 100)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, values[name].grad, rtol=1e3 * atol, atol=atol, msg=name)
