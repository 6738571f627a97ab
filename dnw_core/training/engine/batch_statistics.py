"""Which images move a batch norm's running statistics when a batch has several groups (facts Q19).

The published ImageNet rows ran under torch's DataParallel: each GPU normalised its own part of the batch, and of the
copies' running statistics only those of the first GPU, which are the module's own, outlived the step. Here, too, only
the batch's first group moves them, on whichever worker it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dnw_core.training.engine.group import WorkerGroup


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms that keep running statistics."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@contextmanager
def frozen_running_stats(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """In training, normalise by the images' own statistics as always, but leave the running ones as they are."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def broadcast_statistics(norms: Sequence[_BatchNorm], group: WorkerGroup) -> None:
    """Give every worker the running statistics of the main one, which alone has seen the batches' first groups."""
    if group.is_single:
        return
    kept = [
        buffer
        for norm in norms
        for buffer in (norm.running_mean, norm.running_var, norm.num_batches_tracked)
        if isinstance(buffer, Tensor)
    ]
    for dtype in dict.fromkeys(buffer.dtype for buffer in kept):
        of_type = [buffer for buffer in kept if buffer.dtype == dtype]
        flat = torch.cat([buffer.flatten() for buffer in of_type])
        group.broadcast(flat)
        sizes = [buffer.numel() for buffer in of_type]
        for buffer, values in zip(of_type, torch.split(flat, sizes), strict=True):
            buffer.copy_(values.view(buffer.shape))
