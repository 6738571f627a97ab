"""What is live, found by taking each edge away: the slow and certain way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_liveness(network: Any, masks: Mapping[str, Tensor], images: Tensor) -> None:
    """An edge, an entry of a weight, is live exactly where the network's output changes without it."""
    whole, live = network(images), network.liveness(masks)
    counts = {"dead": 0, "live": 0}
    for graph in network.graphs():
        mask, weight = masks[graph.name], graph.module.weight
        moves = torch.zeros_like(mask)
        for edge in map(tuple, mask.nonzero().tolist()):
            value = float(weight[edge])
            weight[edge] = 0.0
            moves[edge] = not torch.equal(network(images), whole)
            weight[edge] = value
        assert torch.equal(live[graph.name].edges, moves), graph.name
        assert torch.equal(live[graph.name].nodes, moves.transpose(0, 1).flatten(1).any(dim=1)), graph.name
        counts["dead"] += int((mask & ~moves).sum())
        counts["live"] += int(moves.sum())
    assert min(counts.values()) > 20, "the comparison can fail"
