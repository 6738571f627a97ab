"""Cost of a network without graphs: its convolutions and linear layers, counted while one image runs through them.

One MAC = one multiply-add: a convolution costs k x k x (inputs / groups) for each value that it writes, a linear layer
its inputs for each. Norms, activations, biases, pooling and sums are not counted. The image lies on the meta device,
where tensors have a shape and no values: the sizes are those of a real forward pass, and nothing is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dnw_core.record import Cost

Weighing = nn.Conv2d | nn.Linear  # what multiplies
TRAINED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)  # what may hold parameters here


def network_cost(network: nn.Module, image_size: int) -> Cost:
    """Return the cost of an image of ``image_size`` pixels a side; everything is live, and nothing is an edge.

    ``parameters`` has the weights of convolutions and linear layers, without norms and biases; with these, it is what
    papers on ordinary networks print: ``parameters_with_norm``.

    Raises:
        AssertionError: if a part of the network multiplies in a way that is not counted here.
    """
    macs = multiply_adds(network, image_size)
    weights = sum(module.weight.numel() for module in network.modules() if isinstance(module, Weighing))
    trained = sum(parameter.numel() for parameter in network.parameters())
    return Cost(
        parameters=weights,
        parameters_with_norm=trained,
        parameters_allocated=trained,
        live_parameters=weights,
        edges=0,
        live_edges=0,
        nodes=0,
        live_nodes=0,
        macs=macs,
        live_macs=macs,
        dense_macs=macs,
    )


def multiply_adds(network: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of one image; the network itself is neither run nor changed.

    Raises:
        AssertionError: as ``network_cost``.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    found: dict[str, int] = {}
    for name, module in shadow.named_modules():
        holds = any(True for _ in module.parameters(recurse=False))
        assert not holds or isinstance(module, TRAINED), f"{name}: {type(module).__name__} has no rule of cost"
        if isinstance(module, Weighing):
            found[name] = 0
            module.register_forward_hook(_count_into(found, name))
    shadow(torch.empty(1, 3, image_size, image_size, device="meta"))
    idle = [name for name, macs in found.items() if not macs]
    assert not idle, f"no image passes through {', '.join(idle)}: what it multiplies is not counted"
    return sum(found.values())


def _count_into(found: dict[str, int], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def count(module: nn.Module, given: object, made: Tensor) -> None:
        assert isinstance(module, Weighing)
        found[name] += made.numel() * module.weight[0].numel()

    return count
