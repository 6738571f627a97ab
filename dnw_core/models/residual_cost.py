"""Cost of a residual network by the papers' rules (facts 2.3, 3).

One MAC = one multiply-add: a weight costs the pixels that its layer writes, one for each weight of the classifier.
Norms, ReLUs, pooling, sums and biases multiply nothing that is counted. ``parameters`` are the kept weights and
whatever else is trained but norms: the weights of dense layers and the bias of a linear classifier. ``live`` counts
what can influence the output (``residual_liveness``), ``dense`` every slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from dnw_core.models.graph import own_parameters
from dnw_core.models.residual_liveness import live_edges
from dnw_core.record import Cost

if TYPE_CHECKING:
    from dnw_core.models.residual import ResidualNetwork


def residual_cost(network: ResidualNetwork, masks: dict[str, Tensor]) -> Cost:
    """Return the cost with the kept edges ``masks``, by graph name."""
    layers = network.config.layers()
    live_masks = live_edges(network.config, masks)
    kept = {layer.name: layer.weights for layer in layers}
    kept.update({name: int(mask.count_nonzero()) for name, mask in masks.items()})
    live = {name: int(mask.count_nonzero()) for name, mask in live_masks.items()}
    pixels = {layer.name: layer.side**2 for layer in layers}
    own = sum(parameter.numel() for parameter in own_parameters(network))
    norms = sum(
        parameter.numel()
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
        for parameter in module.parameters()
    )
    weights = sum(layer.weights for layer in layers)
    biases = own - norms - weights
    return Cost(
        parameters=sum(kept.values()) + biases,
        parameters_with_norm=sum(kept.values()) + biases + norms,
        parameters_allocated=sum(parameter.numel() for parameter in network.parameters()),
        live_parameters=sum(live.values()) + biases,
        edges=sum(kept[name] for name in masks),
        live_edges=sum(live[name] for name in masks),
        nodes=sum(layer.inputs for layer in layers if layer.name in masks),
        live_nodes=sum(int(live_masks[name].transpose(0, 1).flatten(1).any(dim=1).sum()) for name in masks),
        macs=sum(kept[name] * pixels[name] for name in kept),
        live_macs=sum(live[name] * pixels[name] for name in live),
        dense_macs=sum(layer.weights * pixels[layer.name] for layer in layers),
    )
