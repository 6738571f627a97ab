"""Weights of which only a shard is here (FSDP2's DTensor): wiring rules rank and count whole weights, and say so."""

from __future__ import annotations

import sys

from torch import Tensor

from dnw_core.errors import UserError


def is_sharded(weight: Tensor) -> bool:
    """Whether the weight is a ``DTensor``."""
    # a DTensor exists only where its module was imported; importing it here would cost a second
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and isinstance(weight, tensors.DTensor)


def refuse_sharded(weight: Tensor, name: str) -> None:
    """Refuse a weight of which only a shard is here.

    Args:
        weight: any tensor.
        name: what the sentence calls it.

    Raises:
        UserError: if it is sharded.
    """
    if is_sharded(weight):
        raise UserError(
            f"{name} is sharded by FSDP2 (DTensor), and wiring rules act on whole weights; "
            "use DistributedDataParallel, which leaves them whole"
        )
