"""What is live, found by taking each edge away: the slow and certain way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_liveness(network: Any, masks: Mapping[str, Tensor], images: Tensor) -> None:
    """An edge of a 1x1 convolution is live exactly where the network's output changes without it."""
    whole, live = network(images), network.liveness(masks)
    counts = {"dead": 0, "live": 0}
    for graph in network.graphs():
        mask, weight = masks[graph.name], graph.module.weight
        moves = torch.zeros_like(mask)
        for receiver, sender, _, _ in mask.nonzero().tolist():
            value = float(weight[receiver, sender])
            weight[receiver, sender] = 0.0
            moves[receiver, sender] = not torch.equal(network(images), whole)
            weight[receiver, sender] = value
        assert torch.equal(live[graph.name].edges, moves), graph.name
        assert torch.equal(live[graph.name].nodes, moves.any(dim=0).flatten()), graph.name
        counts["dead"] += int((mask & ~moves).sum())
        counts["live"] += int(moves.sum())
    assert min(counts.values()) > 20, "the comparison can fail"
